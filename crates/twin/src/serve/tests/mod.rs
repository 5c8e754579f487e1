//! The servers before real clients: OpenSSH, russh, kube, the S3 SDK. Behind them is a scripted cluster, not the model.

mod access;
mod control;
mod kube;
mod parallel;
mod s3;
mod ssh;
mod stand_in;
