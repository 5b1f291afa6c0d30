//! Renews the certificate of a context, in its files.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use kontiki_client::{Client, Context, Handover, Renewed, Turnover};
use kontiki_transport::{
    Certificate, Credentials, Signs, authority_fingerprints, believe, disbelieve,
};
use tokio::time::timeout;

use crate::{exit::Failure, output::Output};

/// How long a verb that has other work waits for another certificate.
const IN_PASSING: Duration = Duration::from_secs(2);
/// How long verbs that have other work do not try again what did not come off: where nobody signs, each would wait.
const TRY_AGAIN: Duration = Duration::from_secs(3600);

fn is_due(certificate: &Certificate) -> bool {
    let life = certificate.not_after.duration_since(certificate.not_before);
    let left = certificate.not_after.duration_since(SystemTime::now());
    left.unwrap_or_default() < life.unwrap_or_default() / 3
}

/// The certificate of a context, if it can be read.
pub(crate) fn shown_by(context: &Context) -> Option<Certificate> {
    let pem = fs::read_to_string(&context.certificate).ok()?;
    Certificate::from_pem(&pem).ok()
}

/// Another certificate for a context, from a member that signs. The cluster agrees on something for each: where
/// what it answers could not be kept, it is not asked.
pub(crate) async fn renew(client: &Client, context: &Context) -> Result<(), Failure> {
    for path in [&context.certificate, &context.ca] {
        may_replace(path).map_err(|error| unwritten("write", path, &error))?;
    }
    let Renewed {
        certificate_pem,
        handover,
        ..
    } = client.admin().renew_certificate().await?;
    take(context, &certificate_pem, handover.as_ref())
}

/// Puts what a member has answered into the context's files. It names the authority to be believed; that it is comes
/// from the one that is believed already.
fn take(
    context: &Context,
    certificate_pem: &str,
    handover: Option<&Handover>,
) -> Result<(), Failure> {
    let roots = read(&context.ca)?;
    let roots = match handover {
        Some(handover) => believe(&roots, handover, context.cluster_id, Signs::Nodes)
            .map_err(|error| unfit(&error.to_string()))?,
        None => roots,
    };
    put(context, certificate_pem, &roots)
}

/// Whether the authority that takes the place of another is not believed in this context: what it shows was signed
/// before that one did.
pub(crate) fn is_behind(context: &Context, turnover: Option<Turnover>) -> bool {
    let roots = fs::read_to_string(&context.ca);
    let believed = roots
        .ok()
        .and_then(|roots| authority_fingerprints(&roots).ok());
    let behind = |turnover: Turnover| believed.is_some_and(|all| !all.contains(&turnover.new));
    // Behind one that is finished nobody gets in anyway.
    let turnover = turnover.filter(|turnover| !turnover.finished);
    turnover.is_some_and(behind)
}

/// Believes the authority no more whose place another has taken, where that stands before it.
pub(crate) fn forget_replaced(
    context: &Context,
    turnover: Option<Turnover>,
) -> Result<(), Failure> {
    let Some(turnover) = turnover.filter(|turnover| turnover.finished) else {
        return Ok(());
    };
    let roots = read(&context.ca)?;
    let all = authority_fingerprints(&roots).map_err(|error| unfit(&error.to_string()))?;
    // It is one member's word: it does not take the new one away. No member shows what any other has signed.
    if all.first() != Some(&turnover.new) || !all.contains(&turnover.old) {
        return Ok(());
    }
    let left = all[1..].iter();
    let left = left.filter(|one| **one != turnover.new);
    let left = left.copied().collect::<BTreeSet<_>>();
    let left = left
        .iter()
        .try_fold(roots, |left, gone| disbelieve(&left, gone));
    let left = left.map_err(|error| unfit(&error.to_string()))?;
    replace(&context.ca, &left).map_err(|error| unwritten("write", &context.ca, &error))
}

/// Renews the certificate of the context in use if it is time. A verb has other work, and does it without as
/// well: what cannot be renewed is told of.
pub(crate) async fn renew_in_passing(client: &Client, context: &Context, output: Output) {
    let turnover = client.turnover();
    // One that cannot be written goes on to work.
    let _ = forget_replaced(context, turnover);
    let due = shown_by(context).is_some_and(|shown| is_due(&shown));
    if !(due || is_behind(context, turnover)) || was_tried(context) {
        return;
    }
    // What cannot be written here is tried each time.
    let _ = fs::write(beside(&context.certificate, "tried"), "");
    let renewed = timeout(IN_PASSING, renew(client, context)).await;
    let why = match renewed {
        // Who says that there is another authority, and names it to nobody, is asked no more for a while.
        Ok(Ok(())) if is_behind(context, turnover) => return,
        Ok(Ok(())) => {
            let _ = fs::remove_file(beside(&context.certificate, "tried"));
            return;
        }
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => "no member that signs answers".to_owned(),
    };
    output.note(format_args!(
        "the certificate of this context ends soon and could not be renewed ({why}); `kontiki cert renew` tries again"
    ));
}

/// Whether that was tried within the hour, and did not come off.
fn was_tried(context: &Context) -> bool {
    let tried = fs::metadata(beside(&context.certificate, "tried"));
    let ago = tried
        .and_then(|tried| tried.modified())
        .map(|at| at.elapsed());
    // A time that is yet to come is no reason to wait for it.
    matches!(ago, Ok(Ok(ago)) if ago < TRY_AGAIN)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Puts a certificate where the context's lies, once it is known to fit, and the authorities that are believed. Whom
/// the context trusts is not for whoever answers to say: of members that may sign any one is asked, and its key may
/// be stolen.
pub(crate) fn put(
    context: &Context,
    certificate_pem: &str,
    roots_pem: &str,
) -> Result<(), Failure> {
    let key = read(&context.key)?;
    let renewed = Credentials::from_pem(certificate_pem, &key, roots_pem, "")
        .map_err(|error| unfit(&error.to_string()))?;
    let before = read(&context.certificate)?;
    let shown = Certificate::from_pem(&before)
        .map_err(|error| Failure::new(format!("{}: {error}", context.certificate.display())))?;
    let renewed = renewed.certificate();
    if (&renewed.identity, &renewed.topics) != (&shown.identity, &shown.topics) {
        return Err(unfit(&format!(
            "a certificate of {}, or for other topics, in place of the one of {}",
            renewed.identity, shown.identity
        )));
    }
    let path = &context.certificate;
    keep_before(path, &before, &shown).map_err(|error| unwritten("write", path, &error))?;
    // The certificate first: who does not believe the new authority yet is told to renew again.
    for (path, text) in [
        (&context.certificate, certificate_pem),
        (&context.ca, roots_pem),
    ] {
        if read(path)? != text {
            replace(path, text).map_err(|error| unwritten("write", path, &error))?;
        }
    }
    Ok(())
}

/// Keeps beside a certificate what it takes the place of: only members can tell whether the new one is of use. One
/// that is kept already and is good still stays, whatever followed it.
fn keep_before(path: &Path, before: &str, shown: &Certificate) -> io::Result<()> {
    let aside = beside(path, "before");
    let kept = fs::read_to_string(&aside).ok();
    let kept = kept.and_then(|pem| Certificate::from_pem(&pem).ok());
    let is_good =
        |kept: Certificate| kept.mark() == shown.mark() && kept.not_after > SystemTime::now();
    match kept.is_some_and(is_good) {
        true => Ok(()),
        false => replace(&aside, before),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unwritten("read", path, &error))
}

fn unfit(why: &str) -> Failure {
    Failure::new(format!("the cluster answers what cannot be used: {why}"))
}

/// Whole or not at all, whoever else does the same at the same time and whenever the power goes.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let aside = aside(path);
    let written = fs::File::create(&aside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // It may never have been made.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Fails as [`replace`] would where nothing may be written beside it.
fn may_replace(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    fs::File::create(&aside)?;
    fs::remove_file(&aside)
}

/// This process's own, and another one each time: threads may do the same at once.
fn aside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    beside(path, &format!("{}.{count}.new", process::id()))
}

pub(crate) fn unwritten(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use kontiki_client::ClusterId;
    use kontiki_transport::{Authority, Identity, JoinKey, PublicKey, Role, Terms};
    use tempfile::TempDir;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn shop(role: Role, name: &str) -> Identity {
        Identity::new(ClusterId(7), role, name).unwrap()
    }

    /// A context in a folder of its own, whose certificate an authority of the clients' has signed.
    fn context(clients: &Authority, key: &JoinKey) -> (TempDir, Context) {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let nodes = Authority::new("nodes", HOUR).unwrap();
        let leaf = signed(clients, key, &shop(Role::Producer, "shop"), &[]);
        fs::write(at("ca.pem"), nodes.certificate_pem()).unwrap();
        fs::write(at("client.pem"), leaf).unwrap();
        fs::write(at("client.key"), key.pem()).unwrap();
        let context = Context {
            name: "shop".to_owned(),
            cluster_id: ClusterId(7),
            addresses: Vec::new(),
            certificate: at("client.pem"),
            key: at("client.key"),
            ca: at("ca.pem"),
        };
        (folder, context)
    }

    fn signed(by: &Authority, key: &JoinKey, identity: &Identity, topics: &[&str]) -> String {
        let terms = Terms {
            topics: topics.iter().map(|one| one.parse().unwrap()).collect(),
            ..Terms::of(HOUR)
        };
        by.sign_on(&PublicKey::from(key), identity, &terms).unwrap()
    }

    #[test]
    fn what_did_not_come_off_is_not_tried_again_within_the_hour() {
        let clients = Authority::new("clients", HOUR).unwrap();
        let (_folder, context) = context(&clients, &JoinKey::generate().unwrap());
        assert!(!was_tried(&context));
        let tried = fs::File::create(beside(&context.certificate, "tried")).unwrap();
        assert!(was_tried(&context));
        tried.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
        assert!(!was_tried(&context));
        tried.set_modified(SystemTime::now() + 2 * HOUR).unwrap();
        assert!(!was_tried(&context));
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays_and_nothing_is_left_beside_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("client.pem");
        replace(&path, "one").unwrap();
        // Another process is at the same thing.
        fs::write(folder.path().join("client.pem.1.new"), "half").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        may_replace(&path).unwrap();
        let nowhere = folder.path().join("none/client.pem");
        may_replace(&nowhere).unwrap_err();
        replace(&nowhere, "three").unwrap_err();
        fs::create_dir(folder.path().join("folder")).unwrap();
        replace(&folder.path().join("folder"), "four").unwrap_err();
        let left = fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> = left.map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["client.pem", "client.pem.1.new", "folder"]);
    }

    #[test]
    fn a_context_takes_a_certificate_like_its_own_and_nothing_else_from_whoever_answers() {
        let clients = Authority::new("clients", HOUR).unwrap();
        let (key, other_key) = (JoinKey::generate().unwrap(), JoinKey::generate().unwrap());
        let (_folder, context) = context(&clients, &key);
        let files = || {
            [&context.ca, &context.certificate, &context.key]
                .map(|path| fs::read_to_string(path).unwrap())
        };
        let before = files();
        let put = |certificate: &str| put(&context, certificate, &before[0]);
        let me = shop(Role::Producer, "shop");
        for (wrong, why) in [
            (signed(&clients, &other_key, &me, &[]), "does not belong to"),
            (
                signed(&clients, &key, &shop(Role::Operator, "shop"), &[]),
                "operator/shop",
            ),
            (
                signed(&clients, &key, &shop(Role::Producer, "other"), &[]),
                "producer/other",
            ),
            (signed(&clients, &key, &me, &["logs-*"]), "for other topics"),
        ] {
            let refused = put(&wrong).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(files(), before, "{why}");
        }
        let aside = beside(&context.certificate, "before");
        assert!(!aside.exists());
        // The first of them may be of no use, and so may what it is followed by.
        for _ in 0..2 {
            let good = signed(&clients, &key, &me, &[]);
            put(&good).unwrap();
            let [ca, certificate, kept] = files();
            assert_eq!([&ca, &kept], [&before[0], &before[2]]);
            assert_eq!(certificate, good);
            assert_eq!(fs::read_to_string(&aside).unwrap(), before[1]);
        }
        let terms = Terms::of(Duration::ZERO);
        let expired = clients
            .sign_on(&PublicKey::from(&key), &me, &terms)
            .unwrap();
        fs::write(&aside, expired).unwrap();
        let [_, last, _] = files();
        put(&signed(&clients, &key, &me, &[])).unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), last);
    }

    #[test]
    fn what_was_replaced_is_forgotten_once_it_is_and_never_what_takes_its_place() {
        let clients = Authority::new("clients", HOUR).unwrap();
        let (_folder, context) = context(&clients, &JoinKey::generate().unwrap());
        let roots = || fs::read_to_string(&context.ca).unwrap();
        let [old, new] = ["old", "new"].map(|name| Authority::new(name, HOUR).unwrap());
        let both = [&new, &old].map(|one| one.certificate_pem()).concat();
        let turnover = |old: &Authority, new: &Authority, finished| {
            Some(Turnover {
                old: old.fingerprint(),
                new: new.fingerprint(),
                finished,
            })
        };
        fs::write(&context.ca, old.certificate_pem()).unwrap();
        assert!(!is_behind(&context, None));
        assert!(is_behind(&context, turnover(&old, &new, false)));
        forget_replaced(&context, turnover(&old, &new, true)).unwrap();
        assert_eq!(roots(), old.certificate_pem(), "it is the only one");
        fs::write(&context.ca, &both).unwrap();
        assert!(!is_behind(&context, turnover(&old, &new, false)));
        for kept in [
            None,
            turnover(&old, &new, false),
            // A member that lies.
            turnover(&new, &old, true),
        ] {
            forget_replaced(&context, kept).unwrap();
            assert_eq!(roots(), both);
        }
        assert!(!is_behind(&context, turnover(&new, &clients, true)));
        // One that was replaced while this context was not used goes as well.
        let oldest = Authority::new("oldest", HOUR).unwrap();
        for believed in [both.clone(), both + oldest.certificate_pem()] {
            fs::write(&context.ca, believed).unwrap();
            forget_replaced(&context, turnover(&old, &new, true)).unwrap();
            let left = authority_fingerprints(&roots()).unwrap();
            assert_eq!(left, [new.fingerprint()]);
        }
    }

    #[test]
    fn a_member_that_lies_makes_a_context_believe_nobody() {
        let clients = Authority::new("clients", HOUR).unwrap();
        let key = JoinKey::generate().unwrap();
        let (_folder, context) = context(&clients, &key);
        let files = || {
            [&context.ca, &context.certificate, &context.key]
                .map(|path| fs::read_to_string(path).unwrap())
        };
        let [old, new, theirs] =
            ["old", "new", "theirs"].map(|name| Authority::new(name, HOUR).unwrap());
        fs::write(&context.ca, old.certificate_pem()).unwrap();
        let before = files();
        let leaf = signed(&clients, &key, &shop(Role::Producer, "shop"), &[]);
        let of = |by: &Authority, to| by.hand_over(to, ClusterId(7), Signs::Nodes).unwrap();
        let (good, lie) = (of(&old, &new), of(&new, &theirs));
        let dressed = Handover {
            old: good.old,
            voucher: good.voucher.clone(),
            ..lie.clone()
        };
        for lie in [lie, dressed] {
            let refused = take(&context, &leaf, Some(&lie)).unwrap_err().to_string();
            assert!(refused.contains("vouched for"), "{refused}");
            assert_eq!(files(), before);
        }
        take(&context, &leaf, Some(&good)).unwrap();
        let believed = authority_fingerprints(&files()[0]).unwrap();
        assert_eq!(believed, [new.fingerprint(), old.fingerprint()]);
        assert_eq!(files()[1], leaf);
    }
}
