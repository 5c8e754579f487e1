//! Every rendered script, run by a real `sh` against a host that consists of a directory and stand-ins for its tools.

mod host;
