//! How members are dialled: as whoever the files say one is now. A certificate is renewed, and an authority replaced,
//! in files; a program that runs for years takes them up when it dials next.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use kontiki_transport::{Connection, Credentials, Endpoint, Error, Expect};

/// The certificate, the key and the authorities of a context, as files.
pub(crate) type Files = [PathBuf; 3];

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialler {
    pub(crate) endpoint: Endpoint,
    watched: Option<Arc<Watched>>,
}

struct Watched {
    files: Files,
    /// What they were like when they were taken up.
    taken: Mutex<Stamp>,
}

type Stamp = [Option<(SystemTime, u64)>; 3];

impl Dialler {
    pub(crate) fn new(endpoint: Endpoint, files: Option<Files>) -> Self {
        let watched = files.map(|files| {
            let taken = Mutex::new(stamp_of(&files));
            Arc::new(Watched { files, taken })
        });
        Self { endpoint, watched }
    }

    /// Dials.
    pub(crate) async fn connect(
        &self,
        to: std::net::SocketAddr,
        expect: Expect,
    ) -> Result<Connection, Error> {
        self.look_at_files();
        self.endpoint.connect(to, expect).await
    }

    /// Takes up what lies in the files, if it is something else and can be used.
    fn look_at_files(&self) {
        let Some(watched) = &self.watched else { return };
        let now = stamp_of(&watched.files);
        let mut taken = watched.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken == now {
            return;
        }
        // One file is replaced after the other: what does not fit together yet does so in a moment.
        if let Some(credentials) = read(&watched.files)
            && self.endpoint.set_credentials(&credentials).is_ok()
        {
            *taken = now;
        }
    }
}

fn stamp_of(files: &Files) -> Stamp {
    files.each_ref().map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

fn read(files: &Files) -> Option<Credentials> {
    let [certificate, key, ca] = files.each_ref().map(|path| fs::read_to_string(path).ok());
    Credentials::from_pem(&certificate?, &key?, &ca?, "").ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontiki_transport::{Authority, Identity, Plane, Role};
    use kontiki_wire::ClusterId;

    use super::*;

    #[tokio::test]
    async fn what_is_put_into_the_files_is_taken_up_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["certificate", "key", "ca"].map(|name| folder.path().join(name));
        let hour = Duration::from_secs(3600);
        let authority = || Authority::new("a test's", hour).unwrap();
        let (nodes, clients) = (authority(), authority());
        let me = Identity::new(ClusterId(7), Role::Producer, "shop").unwrap();
        let put = |nodes: &Authority| {
            let issued = clients.issue(&me, hour).unwrap();
            fs::write(&files[0], &issued.certificate_pem).unwrap();
            fs::write(&files[1], &issued.key_pem).unwrap();
            fs::write(&files[2], nodes.certificate_pem()).unwrap();
        };
        put(&nodes);
        let credentials = read(&files).unwrap();
        let endpoint = Endpoint::dialer(Plane::Clients, &credentials).unwrap();
        let dialler = Dialler::new(endpoint, Some(files.clone()));
        let trusted = || {
            dialler.look_at_files();
            dialler.endpoint.credentials().borrow().trusted()
        };
        assert_eq!(trusted(), [nodes.fingerprint()]);
        fs::write(&files[0], "half of a certifi").unwrap();
        assert_eq!(trusted(), [nodes.fingerprint()]);
        let others = authority();
        put(&others);
        assert_eq!(trusted(), [others.fingerprint()]);
    }
}
