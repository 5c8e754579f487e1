//! `lab-rke2`: what `/usr/local/bin/rke2` and its processes are in the lab.

fn main() {}
