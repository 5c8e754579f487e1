mod bench;
mod changes;
mod looks;
mod orders;
mod quoting;
mod restores;
mod stand_ins;
