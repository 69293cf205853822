//! Whether a text is a private SSH key that opens without a passphrase. Only its form is judged; it is never kept here.

use pkcs8::der::{Decode as _, asn1::AnyRef};
use zeroize::Zeroizing;

/// No private key is longer: RSA of 16,384 bits has 13 KiB.
pub const MAX_PRIVATE_KEY: usize = 16 * 1024;

/// Why a text cannot be used as a private key. Never holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    #[error("is missing; give the text of a private key file")]
    Missing,
    #[error("has {0} bytes; a private key has at most {MAX_PRIVATE_KEY}")]
    TooLong(usize),
    #[error("is a public key; give the private one, whose file has the same name without .pub")]
    Public,
    #[error("is a key of PuTTY; turn it into OpenSSH's form with puttygen KEY.ppk -O private-openssh -o KEY")]
    Putty,
    #[error("needs a passphrase; give a key without one, which ssh-keygen -p makes of a copy")]
    Encrypted,
    #[error("is no private key; give an OpenSSH or PEM file that begins with -----BEGIN … PRIVATE KEY-----")]
    NotAKey,
    #[error("is damaged or cut short; copy the whole file again")]
    Damaged,
}

/// Whether `text` is a private key in OpenSSH's form or in PEM (PKCS#1, PKCS#8, SEC1), and in clear.
pub fn check_private_key(text: &str) -> Result<(), PrivateKeyError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(PrivateKeyError::Missing);
    }
    if text.len() > MAX_PRIVATE_KEY {
        return Err(PrivateKeyError::TooLong(text.len()));
    }
    if text.starts_with("PuTTY-User-Key-File-") {
        return Err(PrivateKeyError::Putty);
    }
    if ssh_key::PublicKey::from_openssh(text).is_ok() || text.contains(" PUBLIC KEY-----") {
        return Err(PrivateKeyError::Public);
    }
    if !text.contains(" PRIVATE KEY-----") {
        return Err(PrivateKeyError::NotAKey);
    }
    let parsed = pem::parse(text).map_err(|_| PrivateKeyError::Damaged)?;
    let label = parsed.tag().to_owned();
    let is_encrypted = parsed.headers().get("Proc-Type").is_some_and(|kind| kind.contains("ENCRYPTED"));
    let contents = Zeroizing::new(parsed.into_contents());
    match label.as_str() {
        "OPENSSH PRIVATE KEY" => match ssh_key::PrivateKey::from_openssh(text) {
            Ok(key) if key.is_encrypted() => Err(PrivateKeyError::Encrypted),
            Ok(_) => Ok(()),
            Err(_) => Err(PrivateKeyError::Damaged),
        },
        "ENCRYPTED PRIVATE KEY" => Err(PrivateKeyError::Encrypted),
        _ if is_encrypted => Err(PrivateKeyError::Encrypted),
        "PRIVATE KEY" => whole(pkcs8::PrivateKeyInfoRef::from_der(&contents)),
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" => whole(AnyRef::from_der(&contents)),
        _ => Err(PrivateKeyError::NotAKey),
    }
}

fn whole<T>(parsed: pkcs8::der::Result<T>) -> Result<(), PrivateKeyError> {
    parsed.map(drop).map_err(|_| PrivateKeyError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENSSH: &str = include_str!("private_key/openssh");
    const OPENSSH_ENCRYPTED: &str = include_str!("private_key/openssh_encrypted");
    const PKCS1: &str = include_str!("private_key/pkcs1.pem");
    const PKCS1_ENCRYPTED: &str = include_str!("private_key/pkcs1_encrypted.pem");
    const PKCS8: &str = include_str!("private_key/pkcs8.pem");
    const PKCS8_ENCRYPTED: &str = include_str!("private_key/pkcs8_encrypted.pem");
    const SEC1: &str = include_str!("private_key/sec1.pem");
    const PUBLIC: &str = include_str!("private_key/openssh.pub");

    #[test]
    fn keys_of_ssh_keygen_and_openssl_are_taken() {
        for key in [OPENSSH, PKCS1, PKCS8, SEC1] {
            assert_eq!(check_private_key(key), Ok(()), "{key}");
            assert_eq!(check_private_key(&format!("\n{}", key.trim_end().replace('\n', "\r\n"))), Ok(()), "{key}");
        }
    }

    #[test]
    fn a_key_with_a_passphrase_says_so() {
        for key in [OPENSSH_ENCRYPTED, PKCS1_ENCRYPTED, PKCS8_ENCRYPTED] {
            assert_eq!(check_private_key(key), Err(PrivateKeyError::Encrypted), "{key}");
        }
    }

    #[test]
    fn what_was_given_by_mistake_is_named() {
        assert_eq!(check_private_key(" \n"), Err(PrivateKeyError::Missing));
        assert_eq!(check_private_key(PUBLIC), Err(PrivateKeyError::Public));
        assert_eq!(check_private_key("PuTTY-User-Key-File-3: ssh-ed25519"), Err(PrivateKeyError::Putty));
        assert_eq!(check_private_key("~/.ssh/id_ed25519"), Err(PrivateKeyError::NotAKey));
        assert_eq!(check_private_key(&"x".repeat(MAX_PRIVATE_KEY + 1)), Err(PrivateKeyError::TooLong(16_385)));
    }

    #[test]
    fn a_key_that_was_cut_is_damaged() {
        for key in [OPENSSH, PKCS1, PKCS8, SEC1] {
            let mut lines: Vec<&str> = key.lines().collect();
            assert_eq!(check_private_key(&lines[..lines.len() - 1].join("\n")), Err(PrivateKeyError::Damaged), "{key}");
            lines[1] = "AAAA";
            assert_eq!(check_private_key(&lines.join("\n")), Err(PrivateKeyError::Damaged), "{key}");
        }
    }
}
