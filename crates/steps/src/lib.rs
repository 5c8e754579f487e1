//! The catalogue of actions, the typed commands that they send to hosts, and the ports through which they reach the world.
//!
//! `cli → steps → engine`. Actions name no transport: they speak to [`ports`]; only `access/*` names russh, kube,
//! aws-sdk-s3 and hyper.

pub mod access;
pub mod actions;
pub mod answer;
pub mod catalogue;
pub mod command;
pub mod distribution;
pub mod exposure;
pub mod host;
pub mod kinds;
pub mod objects;
pub mod paths;
pub mod point;
pub mod ports;
pub mod render;
pub mod runbooks;
pub mod secret;
pub mod token;
pub mod transfer;
pub mod versions;

pub use rke2flow_engine::release;
