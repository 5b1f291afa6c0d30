//! Join tokens: one line of text by which somebody without a certificate gets one.
//!
//! The secret is the seed of an Ed25519 key. It is never sent: who joins signs with it what only this
//! one TLS session can have made, and the cluster keeps a hash of the public key, which proves nothing.

use std::{fmt, str::FromStr};

use base64::{DecodeError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kontiki_wire::{
    ClusterId, ParseError,
    limits::{ADDRESS_BYTES_MAX, TOKEN_ADDRESSES_MAX},
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

use crate::{Error, Role};

/// What every token of this kind begins with; the digit is its version.
const PREFIX: &str = "kontiki1.";

/// What tokens of every version begin with.
const KIND: &str = "kontiki";

/// Bytes of a secret, of a hash, and of an authority's fingerprint.
const KEY_BYTES: usize = 32;

/// Bytes of the sum by which a typo is told as one.
const SUM_BYTES: usize = 4;

/// Characters of the longest token that can be: more are not even looked at.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What the public key's hash begins with, so that it is nothing else's hash.
const HASHED: &[u8] = b"kontiki token 1";

/// Leave to join a cluster, once. Whoever has its text has that leave.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The cluster.
    pub cluster: ClusterId,
    /// SHA-256 of the certificate of the authority that signs the cluster's nodes: nobody else is
    /// taken for one of them.
    pub authority: [u8; KEY_BYTES],
    /// What its bearer is to be.
    pub role: Role,
    /// Its number, no secret.
    pub id: u64,
    /// Where members are reached that sign, `host:port`.
    pub addresses: Vec<String>,
    secret: Secret,
}

/// A seed that is not shown.
#[derive(Clone, PartialEq, Eq)]
struct Secret([u8; KEY_BYTES]);

/// That its maker has a token, in one TLS session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The public key of the token.
    pub key: [u8; 32],
    /// Its signature of what binds to the session.
    pub signature: [u8; 64],
}

impl Token {
    /// A new one, with a secret and a number that were drawn.
    pub fn new(
        cluster: ClusterId,
        authority: [u8; KEY_BYTES],
        role: Role,
        addresses: Vec<String>,
    ) -> Result<Self, Error> {
        check_addresses(&addresses)
            .map_err(|why| Error::Credentials(format!("no token can be made: {why}")))?;
        let mut id = [0; 8];
        let mut secret = Secret([0; KEY_BYTES]);
        let random = SystemRandom::new();
        random
            .fill(&mut id)
            .and_then(|()| random.fill(&mut secret.0))
            .map_err(|_| Error::Credentials("this machine gives no randomness".to_owned()))?;
        Ok(Self {
            cluster,
            authority,
            role,
            id: u64::from_le_bytes(id),
            addresses,
            secret,
        })
    }

    /// What the cluster keeps of it: it recognises the token and cannot be used in its place.
    #[must_use]
    pub fn hash(&self) -> [u8; KEY_BYTES] {
        hash_of(self.key_pair().public_key().as_ref())
    }

    /// Shows that its bearer has it. `binding` is what no other session has.
    #[must_use]
    pub fn prove(&self, binding: &[u8; KEY_BYTES]) -> Proof {
        let pair = self.key_pair();
        let key = pair.public_key().as_ref().try_into();
        let signature = pair.sign(binding);
        Proof {
            key: key.expect("an Ed25519 key has 32 bytes"),
            signature: signature
                .as_ref()
                .try_into()
                .expect("an Ed25519 signature has 64 bytes"),
        }
    }

    fn key_pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.secret.0).expect("any 32 bytes are a seed")
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.cluster.0.to_be_bytes());
        bytes.extend(self.authority);
        bytes.push(number_of(self.role));
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.secret.0);
        let short = |len: usize| u8::try_from(len).expect("checked when it was made or read");
        bytes.push(short(self.addresses.len()));
        for address in &self.addresses {
            bytes.push(short(address.len()));
            bytes.extend(address.as_bytes());
        }
        let sum = sum_of(&bytes);
        bytes.extend(sum);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(CUT)?;
        if sum_of(body) != *sum {
            return Err(CUT.to_owned());
        }
        // From here on it is as somebody meant it to be, if not one of us.
        let mut rest = Rest(body);
        let token = Self {
            cluster: ClusterId(u128::from_be_bytes(rest.chunk()?)),
            authority: rest.chunk()?,
            role: role_of(rest.byte()?)?,
            id: u64::from_be_bytes(rest.chunk()?),
            secret: Secret(rest.chunk()?),
            addresses: rest.addresses()?,
        };
        if !rest.0.is_empty() {
            return Err(format!("the token has {} bytes too many", rest.0.len()));
        }
        check_addresses(&token.addresses)?;
        Ok(token)
    }

    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(coded) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with(KIND) {
                format!(
                    "this program reads tokens that begin with {PREFIX}, and this one is of another \
                     version, or is not whole"
                )
            } else {
                format!("a token begins with {PREFIX}, and this does not")
            });
        };
        if coded.len() > TEXT_BYTES_MAX {
            return Err(format!(
                "a token has at most {TEXT_BYTES_MAX} characters, and this has {}",
                coded.len()
            ));
        }
        let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|error| match error {
            DecodeError::InvalidByte(at, _) => format!(
                "character {} of the token is none that a token has: copy it again, whole and in one \
                 line",
                PREFIX.len() + at + 1
            ),
            _ => CUT.to_owned(),
        })?;
        Self::from_bytes(&bytes)
    }
}

impl Proof {
    /// Whether it was made with the token that has this hash, in the session of this binding.
    #[must_use]
    pub fn holds(&self, hash: &[u8; KEY_BYTES], binding: &[u8; KEY_BYTES]) -> bool {
        // A guess at a key costs no more than its hash.
        same(&self.hash(), hash)
            && UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(binding, &self.signature)
                .is_ok()
    }

    /// The hash of the token that it claims to be of.
    #[must_use]
    pub fn hash(&self) -> [u8; KEY_BYTES] {
        hash_of(&self.key)
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    fn addresses(&mut self) -> Result<Vec<String>, String> {
        let count = self.byte()?;
        (0..count).map(|_| self.address()).collect()
    }

    fn address(&mut self) -> Result<String, String> {
        let len = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| "an address of the token is no text".into())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

impl FromStr for Token {
    type Err = ParseError;
    /// Reads its text; the error is for whoever has copied it. The text is in no error.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::read(text).map_err(ParseError::new)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("cluster", &self.cluster)
            .field("role", &self.role)
            .field("id", &self.id)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

const CUT: &str =
    "a character of the token is wrong or missing: copy it again, whole and in one line";
const SHORT: &str = "the token ends too early, and its sum says that it was made so";

fn check_addresses(addresses: &[String]) -> Result<(), String> {
    if addresses.is_empty() || addresses.len() > TOKEN_ADDRESSES_MAX {
        return Err(format!(
            "a token has 1 to {TOKEN_ADDRESSES_MAX} addresses, and this has {}",
            addresses.len()
        ));
    }
    for address in addresses {
        let plain = address.len() <= ADDRESS_BYTES_MAX
            && address.bytes().all(|byte| byte.is_ascii_graphic());
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse::<u16>().ok())
            .filter(|port| *port > 0);
        if !plain || port.is_none() {
            return Err("an address of the token is not a host and a port".to_owned());
        }
    }
    Ok(())
}

fn hash_of(public_key: &[u8]) -> [u8; KEY_BYTES] {
    let hashed = digest(&SHA256, &[HASHED, public_key].concat());
    hashed.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn sum_of(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let hashed = digest(&SHA256, bytes);
    *hashed.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

/// Takes as long wherever the two differ.
fn same(one: &[u8; KEY_BYTES], other: &[u8; KEY_BYTES]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differing) == 0
}

const fn number_of(role: Role) -> u8 {
    match role {
        Role::Node => 1,
        Role::Producer => 2,
        Role::Consumer => 3,
        Role::Operator => 4,
    }
}

fn role_of(number: u8) -> Result<Role, String> {
    Role::ALL
        .into_iter()
        .find(|role| number_of(*role) == number)
        .ok_or_else(|| {
            format!("the token is for a role, {number}, that this program does not know")
        })
}

#[cfg(test)]
mod tests;
