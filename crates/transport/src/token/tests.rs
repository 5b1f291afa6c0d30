//! Tokens as people copy them, as attackers write them, and what they prove.

use proptest::prelude::*;

use super::*;

const BINDING: [u8; 32] = [7; 32];

fn token() -> Token {
    Token {
        cluster: ClusterId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        authority: [0xa0; 32],
        role: Role::Node,
        id: 0x1122_3344_5566_7788,
        addresses: vec!["10.0.0.1:7400".to_owned(), "n1.example:7400".to_owned()],
        secret: Secret([0x5e; 32]),
    }
}

/// A token of any bytes with a sum that is right.
fn sealed(bytes: &[u8]) -> String {
    let bytes = [bytes, &sum_of(bytes)].concat();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn a_token_has_the_text_it_always_had() {
    assert_eq!(
        token().to_string(),
        "kontiki1.ASNFZ4mrze8BI0VniavN76CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgAREiM0RVZneIXl5eXl5e\
         Xl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl4CDTEwLjAuMC4xOjc0MDAPbjEuZXhhbXBsZTo3NDAwVBTtIg"
    );
}

#[test]
fn a_token_is_read_back_with_blanks_around_it() {
    for role in Role::ALL {
        let token = Token { role, ..token() };
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(format!(" {token}\n").parse(), Ok(token));
    }
}

#[test]
fn every_single_typo_is_told_as_one() {
    let text = token().to_string();
    for at in PREFIX.len()..text.len() {
        for wrong in ['A', 'b', '7', '_', ' ', 'é', '='] {
            let mut typo: Vec<char> = text.chars().collect();
            if typo[at] == wrong {
                continue;
            }
            typo[at] = wrong;
            let typo: String = typo.into_iter().collect();
            let refused = typo.parse::<Token>().expect_err(&typo).to_string();
            assert!(refused.contains("copy it again, whole"), "{refused}");
        }
        let cut = text[..at].parse::<Token>().expect_err("cut").to_string();
        assert!(cut.contains("copy it again, whole"), "{cut}");
    }
}

#[test]
fn what_is_no_token_is_refused_and_not_shown() {
    let secret = "s3cret";
    for (text, told) in [
        (secret.to_owned(), "a token begins with kontiki1."),
        (format!("kontiki2.{secret}"), "of another version"),
        (format!("{PREFIX}{}", "A".repeat(5_000)), "at most 4096"),
        (String::new(), "a token begins with"),
    ] {
        let refused = text.parse::<Token>().expect_err(told).to_string();
        assert!(refused.contains(told), "{refused}");
        assert!(!refused.contains(secret), "{refused}");
    }
}

#[test]
fn bytes_that_make_no_token_are_refused_although_their_sum_is_right() {
    let whole = token().to_bytes();
    let body = &whole[..whole.len() - SUM_BYTES];
    let refuse = |bytes: &[u8], told: &str| {
        let refused = sealed(bytes).parse::<Token>().expect_err(told).to_string();
        assert!(refused.contains(told), "{refused}, and not {told}");
    };
    sealed(body).parse::<Token>().expect("the pattern is good");
    for end in 0..body.len() {
        refuse(&body[..end], "ends too early");
    }
    refuse(&[body, &[0]].concat(), "1 bytes too many");
    let changed = |at: usize, byte: u8| {
        let mut bytes = body.to_vec();
        bytes[at] = byte;
        bytes
    };
    const ROLE: usize = 48;
    const COUNT: usize = ROLE + 1 + 8 + 32;
    refuse(&changed(ROLE, 0), "a role, 0,");
    refuse(&changed(ROLE, 5), "a role, 5,");
    refuse(&changed(COUNT, 255), "ends too early");
    refuse(&changed(COUNT + 1, 255), "ends too early");
    refuse(&changed(COUNT + 2, 0xff), "no text");
    for byte in [b' ', b'\n', 0x1b] {
        refuse(&changed(COUNT + 2, byte), "not a host and a port");
    }
    let mut none = body[..=COUNT].to_vec();
    none[COUNT] = 0;
    refuse(&none, "1 to 8 addresses, and this has 0");
    let mut many = body[..=COUNT].to_vec();
    many[COUNT] = 9;
    for _ in 0..9 {
        many.extend(b"\x03a:1");
    }
    refuse(&many, "1 to 8 addresses, and this has 9");
    for address in ["host", ":1", "host:0", "host:70000", "host:x"] {
        let mut one = body[..=COUNT].to_vec();
        one[COUNT] = 1;
        one.push(address.len() as u8);
        one.extend(address.as_bytes());
        refuse(&one, "not a host and a port");
    }
}

#[test]
fn a_proof_holds_for_its_token_and_its_session_alone() {
    let token = token();
    let proof = token.prove(&BINDING);
    assert!(proof.holds(&token.hash(), &BINDING));
    assert!(!proof.holds(&token.hash(), &[8; 32]), "another session");
    let other = Token {
        secret: Secret([1; 32]),
        ..token.clone()
    };
    assert!(!proof.holds(&other.hash(), &BINDING), "another token");
    let forged = Proof {
        key: proof.key,
        signature: other.prove(&BINDING).signature,
    };
    assert!(
        !forged.holds(&token.hash(), &BINDING),
        "another's signature"
    );
    for at in 0..64 {
        let mut spoiled = proof.clone();
        spoiled.signature[at] ^= 1;
        assert!(!spoiled.holds(&token.hash(), &BINDING), "byte {at}");
    }
    // What the cluster keeps is of no use as a key.
    let stolen = Token {
        secret: Secret(token.hash()),
        ..token.clone()
    };
    assert!(!stolen.prove(&BINDING).holds(&token.hash(), &BINDING));
}

#[test]
fn a_hundred_thousand_guesses_of_a_secret_prove_nothing() {
    let token = token();
    let hash = token.hash();
    for guess in 1..=100_000_u32 {
        // Near the right one, in case that helps.
        let mut guessed = token.clone();
        for (byte, by) in guessed.secret.0.iter_mut().zip(guess.to_le_bytes()) {
            *byte ^= by;
        }
        let proof = guessed.prove(&BINDING);
        assert!(!proof.holds(&hash, &BINDING), "guess {guess}");
    }
    assert!(token.prove(&BINDING).holds(&hash, &BINDING));
}

#[test]
fn tokens_are_drawn_anew_and_their_secret_is_not_shown() {
    let draw = || {
        Token::new(
            ClusterId(7),
            [1; 32],
            Role::Operator,
            vec!["h:1".to_owned()],
        )
        .expect("randomness")
    };
    let (one, two) = (draw(), draw());
    assert_ne!(one.hash(), two.hash());
    assert_ne!(one.id, two.id);
    assert!(!format!("{one:?}").contains("secret"));
    let none = Token::new(ClusterId(7), [1; 32], Role::Node, Vec::new());
    assert!(none.is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_what_parses_prints_back(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = text.parse::<Token>();
        for text in [format!("{PREFIX}{text}"), sealed(&bytes)] {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
