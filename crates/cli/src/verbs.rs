//! One file for each verb.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod cert;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod dev;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod leader;
pub(crate) mod login;
pub(crate) mod member;
pub(crate) mod read;
pub(crate) mod recover;
pub(crate) mod serve;
pub(crate) mod sim;
pub(crate) mod teller;
pub(crate) mod token;
pub(crate) mod topic;
pub(crate) mod verify;
