//! What every journal promises, and what the one on disk does when it is damaged.

mod contract;
mod damage;
mod golden;
