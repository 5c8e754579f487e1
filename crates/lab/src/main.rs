//! `rke2flow-lab`: makes and drives a lab of real hosts by hand.

fn main() {}
