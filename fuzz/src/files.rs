//! Files that a person may have written: a member's, its configuration, a client's context.

use std::{cell::OnceCell, fs};

use kontiki_client::Context;
use kontiki_server::{Config, MemberFile};
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// The same bytes as each of the three. What is refused says why, in one piece.
pub(crate) fn files(bytes: &[u8]) {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder"));
        let write = |name: &str| {
            let path = folder.path().join(name);
            // To write over a file makes some file systems flush it.
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).expect("a file can be written");
            path
        };
        write("member.toml");
        match MemberFile::load(folder.path()) {
            Ok(member) => {
                assert_eq!(member.me().name, member.name);
                assert_eq!(member.birth_state().members, member.members);
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
        write("kontiki.toml");
        if let Err(refused) = Config::load(folder.path()) {
            assert!(!refused.to_string().is_empty());
        }
        let path = write("context.toml");
        match Context::load(&path) {
            Ok(context) => {
                let again = folder.path().join("again.toml");
                let _ = fs::remove_file(&again);
                context.save(&again).expect("what was loaded can be saved");
                let loaded = Context::load(&again).expect("what was saved can be loaded");
                assert_eq!(loaded.name, context.name);
                assert_eq!(loaded.addresses, context.addresses);
            }
            Err(refused) => assert!(!refused.to_string().is_empty()),
        }
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "cluster_id = \"00000000000000000000000000000007\"\nname = \"n2\"\nauto_create = true\n\
         started = false\nversion = 1\n\n[[members]]\nid = 1\nincarnation = \"ffffffffffffffff\"\n\
         name = \"n1\"\naddress = \"10.0.0.1:7400\"\npeer_address = \"10.0.0.1:7401\"\n\n\
         [[members]]\nid = 2\nincarnation = \"0000000000000001\"\nname = \"n2\"\n\
         address = \"10.0.0.2:7400\"\npeer_address = \"10.0.0.2:7401\"\n",
        "listen = \"0.0.0.0:7400\"\nlisten_peers = \"0.0.0.0:7401\"\nadvertise = \"a:1\"\n\n\
         [log]\nlevel = \"info\"\nformat = \"json\"\n\n[limits]\nconnections = 10\n\
         bytes_in_flight = 67108864\n",
        "name = \"dev\"\ncluster_id = \"00000000000000000000000000000007\"\n\
         addresses = [\"127.0.0.1:7400\", \"[::1]:7400\"]\ncertificate = \"a.pem\"\n\
         key = \"a.key\"\nca = \"ca.pem\"\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
