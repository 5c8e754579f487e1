//! The controllers of Velero.
