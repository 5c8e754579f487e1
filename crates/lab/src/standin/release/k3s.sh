#!/bin/sh
# What the release's binary is in the lab: the stand-in, told which release it is.
exec "${LAB_RKE2:-/srv/lab/bin/lab-rke2}" k3s --release @VERSION@ "$@"
