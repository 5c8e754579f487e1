//! The hosts: network, root file system, systemd, power and cables.
