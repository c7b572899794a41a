//! The deny list: files whose name says that their content is a secret.

use std::path::Path;

/// Names, lower case, that are secret wherever they are.
const NAMES: [&str; 19] = [
    ".dockercfg",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".vault-token",
    ".yarnrc.yml",
    "_netrc",
    "kubeconfig",
    "master.key",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "service-account.json",
    "terraform.tfstate",
];

/// Extensions of keys, key stores and their like.
const EXTENSIONS: [&str; 13] = [
    "asc", "gpg", "jks", "kdbx", "key", "keystore", "ovpn", "p12", "p8", "pem", "pfx", "ppk",
    "tfvars",
];

/// What names of private keys and credential files begin with.
const PREFIXES: [&str; 6] = [
    "credentials",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "client_secret",
];

/// Folders in which every file is secret.
const FOLDERS: [&str; 4] = [".aws", ".gnupg", ".kube", ".ssh"];

/// Endings that mark a file as made to be read: templates and public keys.
const HARMLESS: [&str; 6] = [".dist", ".example", ".pub", ".sample", ".template", ".tmpl"];

/// Whether the content of the file at this `/`-separated path must never be
/// shown. Judged by name alone and without regard to case: the content may
/// already be gone.
#[must_use]
pub fn is_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if HARMLESS.iter().any(|ending| name.ends_with(ending)) {
        return false;
    }
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    NAMES.contains(&name)
        || name == ".env"
        || name == ".envrc"
        || name.starts_with(".env.")
        || name.ends_with(".env")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || extension.is_some_and(|e| EXTENSIONS.contains(&e))
        || folders.split('/').any(|folder| FOLDERS.contains(&folder))
        || path.ends_with(".docker/config.json")
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn secrets_are_known_by_name() {
        for path in [
            ".env",
            ".env.local",
            "deploy/prod.env",
            "a/b/.ENV",
            "certs/server.pem",
            "server.key",
            "id_rsa",
            "keys/id_ed25519_work",
            ".npmrc",
            "home/.netrc",
            "credentials.json",
            "Credentials",
            "store.p12",
            ".aws/config",
            ".ssh/known_hosts",
            ".docker/config.json",
        ] {
            assert!(is_secret(path), "{path} should be secret");
        }
    }

    #[test]
    fn ordinary_files_are_shown() {
        for path in [
            "src/env.rs",
            ".env.example",
            ".envoy/config.yaml",
            "id_rsa.pub",
            "keyboard.rs",
            "src/credential_form.rs",
            "config.json",
            "environment",
        ] {
            assert!(!is_secret(path), "{path} should be shown");
        }
    }
}
