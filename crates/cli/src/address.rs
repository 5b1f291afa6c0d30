//! Addresses as people write them: a host and a port at which others reach something.

use std::net::IpAddr;

/// `HOST:PORT`, which others can dial.
pub(crate) fn parse_address(text: &str) -> Result<String, String> {
    let (host, _) = split_port(text)
        .ok_or_else(|| format!("{text:?} is no address; write HOST:PORT, as in 10.0.0.1:7400"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(format!(
            "{text:?} means all addresses of this machine, and others must know one at which they reach \
             it; to listen on all of them, set `listen` in the member's kontiki.toml besides"
        )),
        _ => Ok(text.to_owned()),
    }
}

/// The address with the next port.
pub(crate) fn next_port(address: &str) -> Result<String, String> {
    let (host, port) = split_port(address).ok_or_else(|| {
        format!("{address:?} is no address; write HOST:PORT, as in 10.0.0.1:7401")
    })?;
    let next = port.checked_add(1).ok_or_else(|| {
        format!("there is no port after {port}; say where peers reach it: {address},{host}:PORT")
    })?;
    Ok(format!("{host}:{next}"))
}

/// A host and a port that is one.
pub(crate) fn split_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (!host.is_empty() && port > 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_others_can_dial() {
        for good in ["10.0.0.1:7400", "[::1]:7400", "n1.example:7400"] {
            assert_eq!(parse_address(good), Ok(good.to_owned()));
        }
        for wrong in ["", "10.0.0.1", ":7400", "h:0", "h:x"] {
            assert!(parse_address(wrong).unwrap_err().contains("HOST:PORT"));
        }
        for all in ["0.0.0.0:7400", "[::]:7400"] {
            assert!(parse_address(all).unwrap_err().contains("all addresses"));
        }
    }
}
