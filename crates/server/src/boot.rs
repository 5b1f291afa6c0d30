//! From files to a broker: who this member is, whether its disk is its own, and what that disk held.

use std::{fs, net::SocketAddr, sync::Arc, time::SystemTime};

use kontiki_broker::{Broker, REST};
use kontiki_raft::NodeRef;
use kontiki_storage::{Event, Recovered, Storage};
use kontiki_transport::{Certificate, Credentials, Endpoint, Limits, Plane, Precedence};
use tokio::{sync::mpsc, task::spawn_blocking};
use tracing::{info, warn};

use crate::{
    authorities::Authorities,
    clock::Clock,
    config::Config,
    data::DataDir,
    error::StartError,
    member::{MemberFile, node_ref},
    own::{credentials, due, how_to_mend, renew_with},
    recovery,
    succession::Vault,
};

/// All that a member is made of before it is wired together.
pub(crate) struct Booted {
    pub(crate) member: MemberFile,
    pub(crate) me: NodeRef,
    pub(crate) clients: Endpoint,
    pub(crate) peers: Endpoint,
    pub(crate) clock: Clock,
    pub(crate) storage: Storage,
    /// What storage tells, through a queue that never blocks its threads.
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) broker: Broker,
    /// What it signs with, if it does.
    pub(crate) vault: Option<Vault>,
}

/// Makes it from the member's directory. What can be refused without touching the disk is refused
/// before.
pub(crate) async fn boot(config: &Config) -> Result<Booted, StartError> {
    let mut member = MemberFile::load(&config.dir)?;
    check_advertised(config, &member)?;
    renew_own(config, &member);
    let credentials = credentials(&config.dir, &member).map_err(|error| advised(config, error))?;
    let vault = Vault::of_member(&config.dir, config.ca.as_deref(), &credentials)?;
    let (clients, peers) = listen(config, &member, &credentials)?;
    let data = DataDir::of(&config.dir, &member)?;
    let data = finish_recovery(config, &member, data).await?;
    let (storage, recovered, events) = open_storage(config, &data, member.started).await?;
    data.claim()?;
    let mut clock = Clock::start();
    let broker = broker(&member, recovered, &mut clock, config.storage.segment_bytes)?;
    if member.begin() {
        member.save(&config.dir).map_err(|source| StartError::Io {
            doing: "cannot write in",
            path: config.dir.clone(),
            source,
        })?;
    }
    Ok(Booted {
        me: node_ref(member.me()),
        member,
        clients,
        peers,
        clock,
        storage,
        events,
        broker,
        vault,
    })
}

/// A recovery that was interrupted is finished before anything else.
async fn finish_recovery(
    config: &Config,
    member: &MemberFile,
    data: DataDir,
) -> Result<DataDir, StartError> {
    if !data.is_behind {
        return Ok(data);
    }
    let (of, by) = (config.clone(), member.clone());
    let finished = spawn_blocking(move || recovery::finish(&of, &by, &data)).await;
    finished
        .map_err(|error| StartError::Log(format!("finishing the recovery failed: {error}")))??;
    DataDir::of(&config.dir, member)
}

/// A member that signs renews its own certificate before it shows it, if it is time. One that cannot starts
/// with what it has.
fn renew_own(config: &Config, member: &MemberFile) {
    let Some(folder) = Authorities::folder(&config.dir, config.ca.as_deref()) else {
        return;
    };
    let shown = fs::read_to_string(config.dir.join("certs/node.pem"));
    let shown = shown.ok().and_then(|pem| Certificate::from_pem(&pem).ok());
    if shown.is_none_or(|shown| SystemTime::now() < due(&shown, 0.0)) {
        return;
    }
    match renew_with(&config.dir, member, &folder, config.certificates_valid) {
        Ok(_) => info!("the certificate is renewed"),
        Err(error) => warn!(%error, "the certificate cannot be renewed"),
    }
}

/// With what to do where a certificate has expired.
fn advised(config: &Config, error: StartError) -> StartError {
    let shown = fs::read_to_string(config.dir.join("certs/node.pem"));
    let shown = shown.ok().and_then(|pem| Certificate::from_pem(&pem).ok());
    let expired = shown.is_some_and(|shown| shown.not_after <= SystemTime::now());
    match error {
        StartError::Certificate { path, what } if expired => StartError::Certificate {
            path,
            what: format!("{what}: {}", how_to_mend(&config.dir)),
        },
        other => other,
    }
}

fn listen(
    config: &Config,
    member: &MemberFile,
    credentials: &Credentials,
) -> Result<(Endpoint, Endpoint), StartError> {
    let me = member.me();
    let precedence = Precedence::default();
    let listen = |plane, address, setting, limits| {
        let listening = Endpoint::listen_within(address, plane, credentials, limits, &precedence);
        listening.map_err(|error| match error {
            kontiki_transport::Error::Bind { source, .. } => StartError::Listen {
                address,
                setting,
                reason: source.to_string(),
            },
            other => StartError::Certificate {
                path: config.dir.join("certs"),
                what: other.to_string(),
            },
        })
    };
    let address = listen_address(config.listen, &me.address)?;
    let peer_address = listen_address(config.listen_peers, &me.peer_address)?;
    let limits = Limits {
        connections: config.limits.connections,
        connections_per_identity: config.limits.connections_per_identity,
        ..Limits::of(Plane::Clients)
    };
    let clients = listen(Plane::Clients, address, "listen", limits)?;
    let limits = Limits::of(Plane::Peers);
    let peers = listen(Plane::Peers, peer_address, "listen_peers", limits)?;
    Ok((clients, peers))
}

/// Recovery reads whatever the disk holds: off the runtime's thread.
async fn open_storage(
    config: &Config,
    data: &DataDir,
    begun: bool,
) -> Result<(Storage, Recovered, mpsc::UnboundedReceiver<Event>), StartError> {
    let (sender, events) = mpsc::unbounded_channel();
    let tell = Arc::new(move |event| {
        // Nobody listens any more when the member is stopping.
        let _ = sender.send(event);
    });
    let settings = data.settings(config, begun);
    let path = data.path.clone();
    let open = move || Storage::open(&path, settings, tell);
    let opened = spawn_blocking(open).await;
    let (storage, recovered) =
        opened.map_err(|error| StartError::Log(format!("opening the disk failed: {error}")))??;
    Ok((storage, recovered, events))
}

fn broker(
    member: &MemberFile,
    recovered: Recovered,
    clock: &mut Clock,
    segment_bytes: u64,
) -> Result<Broker, StartError> {
    if let Some(torn) = &recovered.torn {
        info!(%torn, "the last write had not finished; it was cut off");
    }
    for group in recovered
        .groups
        .iter()
        .filter(|one| !one.missing.is_empty())
    {
        let why = group.damage.join("; ");
        warn!(group = group.group.0, %why, "the disk has lost committed entries; peers are asked for them");
    }
    let damage = (!recovered.damage.is_empty()).then(|| recovered.damage.join("; "));
    if let Some(why) = &damage {
        warn!(%why, "the disk has lost what it was to keep: this member copies, and does not vote yet");
    }
    let groups = recovered.into_boots(node_ref(member.me()), member.started);
    let settings = kontiki_broker::Settings {
        cluster: member.cluster,
        epoch: member.epoch,
        me: node_ref(member.me()),
        raft: kontiki_raft::Settings {
            rest: REST,
            ..kontiki_raft::Settings::default()
        },
        birth: member.birth_state(),
        checkpoints: kontiki_broker::CheckpointEvery::default(),
        // Less than a file is nowhere sealed.
        fetch_bytes_min: kontiki_broker::FETCH_BYTES_MIN.min(segment_bytes),
        damage,
        seed: getrandom::u64().map_err(StartError::Randomness)?,
    };
    Broker::new(settings, groups, clock.now(None)).map_err(StartError::Log)
}

/// The address to listen on: as configured, as born, or the born port on all interfaces where the
/// address is a host's name.
fn listen_address(configured: Option<SocketAddr>, born: &str) -> Result<SocketAddr, StartError> {
    if let Some(address) = configured {
        return Ok(address);
    }
    if let Ok(address) = born.parse() {
        return Ok(address);
    }
    let port = born
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let port: u16 = port.ok_or_else(|| StartError::Log(format!("{born:?} has no port")))?;
    Ok(SocketAddr::from(([0, 0, 0, 0], port)))
}

fn check_advertised(config: &Config, member: &MemberFile) -> Result<(), StartError> {
    let me = member.me();
    for (key, wanted, known) in [
        ("advertise", &config.advertise, &me.address),
        ("advertise_peers", &config.advertise_peers, &me.peer_address),
    ] {
        if let Some(wanted) = wanted
            && wanted != known
        {
            return Err(StartError::Config {
                path: config.dir.join("kontiki.toml"),
                what: format!(
                    "`{key}` is {wanted}, and the cluster knows this member at {known}; change it \
                     back, or replace the member"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_the_configured_the_born_or_the_born_port() {
        let configured = "127.0.0.1:1".parse().unwrap();
        let address = |configured, born| listen_address(configured, born).unwrap().to_string();
        assert_eq!(address(Some(configured), "10.0.0.1:7401"), "127.0.0.1:1");
        assert_eq!(address(None, "10.0.0.1:7401"), "10.0.0.1:7401");
        assert_eq!(address(None, "n1.example:7400"), "0.0.0.0:7400");
        assert!(listen_address(None, "n1.example").is_err());
    }
}
