mod bench;
mod looks;
