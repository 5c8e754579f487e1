mod bench;
mod changes;
mod looks;
mod orders;
mod quoting;
