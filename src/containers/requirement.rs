//! One requirement of `policy.json`, read as strictly as containers-policy.json(5) asks for: an unknown or a missing
//! field makes the whole file invalid, also where the requirement concerns no image of the run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::Json;
use crate::oci::Reference;

/// What a requirement asks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    /// `insecureAcceptAnything`: nothing.
    Accept,
    /// `reject`: no image has it.
    Reject,
    /// A signature, which is not verified here; the type is the one in the file.
    Signature(&'static str),
}

impl Requirement {
    /// Reads one requirement object; the error says what is wrong in it.
    pub(super) fn read(value: &Json) -> Result<Requirement, String> {
        let fields = Fields::of(value)?;
        match fields.text("type")?.ok_or("a requirement has no type")? {
            "insecureAcceptAnything" => fields.only(&["type"]).map(|()| Requirement::Accept),
            "reject" => fields.only(&["type"]).map(|()| Requirement::Reject),
            "signedBy" => signed_by(&fields).map(|()| Requirement::Signature("signedBy")),
            "signedBaseLayer" => {
                fields.only(&["type", "baseLayerIdentity"])?;
                identity(fields.get("baseLayerIdentity").ok_or("a signedBaseLayer has no baseLayerIdentity")?)?;
                Ok(Requirement::Signature("signedBaseLayer"))
            }
            "sigstoreSigned" => sigstore_signed(&fields).map(|()| Requirement::Signature("sigstoreSigned")),
            other => Err(format!("there is no requirement of the type {other:?}")),
        }
    }
}

fn signed_by(fields: &Fields<'_>) -> Result<(), String> {
    fields.only(&["type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"])?;
    match fields.text("keyType")? {
        Some("GPGKeys" | "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs") => {}
        Some(other) => return Err(format!("there is no keyType {other:?}")),
        None => return Err("a signedBy has no keyType".into()),
    }
    fields.one_of(&["keyPath", "keyPaths", "keyData"], true)?;
    fields.key("keyPath", "keyPaths", "keyData", "")?;
    fields.get("signedIdentity").map_or(Ok(()), identity)
}

fn sigstore_signed(fields: &Fields<'_>) -> Result<(), String> {
    let keys = ["keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"];
    let rekor = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];
    fields.only(&[&["type", "signedIdentity"], &keys[..], &rekor[..]].concat())?;
    fields.one_of(&keys, true)?;
    fields.one_of(&rekor, false)?;
    fields.key(keys[0], keys[1], keys[2], keys[3])?;
    fields.key(rekor[0], rekor[1], rekor[2], rekor[3])?;
    let has_rekor = rekor.iter().any(|key| fields.get(key).is_some());
    if let Some(fulcio) = fields.get("fulcio") {
        let fulcio = Fields::of(fulcio)?;
        fulcio.only(&["caPath", "caData", "oidcIssuer", "subjectEmail"])?;
        fulcio.one_of(&["caPath", "caData"], true)?;
        fulcio.key("caPath", "", "caData", "")?;
        fulcio.filled("oidcIssuer")?;
        fulcio.filled("subjectEmail")?;
        if !has_rekor {
            return Err("fulcio needs a rekorPublicKey".into());
        }
    }
    if let Some(pki) = fields.get("pki") {
        let pki = Fields::of(pki)?;
        let [roots, intermediates] = [["caRootsPath", "caRootsData"], ["caIntermediatesPath", "caIntermediatesData"]];
        let subject = ["subjectEmail", "subjectHostname"];
        pki.only(&[roots, intermediates, subject].concat())?;
        pki.one_of(&roots, true)?;
        pki.one_of(&intermediates, false)?;
        pki.key(roots[0], "", roots[1], "")?;
        pki.key(intermediates[0], "", intermediates[1], "")?;
        if subject.iter().all(|key| pki.get(key).is_none()) {
            return Err("pki has neither a subjectEmail nor a subjectHostname".into());
        }
        subject.iter().filter(|key| pki.get(key).is_some()).try_for_each(|key| pki.filled(key).map(drop))?;
        if has_rekor {
            return Err("pki takes no rekorPublicKey".into());
        }
    }
    fields.get("signedIdentity").map_or(Ok(()), identity)
}

/// What a signature must say that the image is.
fn identity(value: &Json) -> Result<(), String> {
    let fields = Fields::of(value)?;
    match fields.text("type")?.ok_or("an identity has no type")? {
        "matchExact" | "matchRepoDigestOrExact" | "matchRepository" => fields.only(&["type"]),
        "exactReference" => {
            fields.only(&["type", "dockerReference"])?;
            let text = fields.filled("dockerReference")?;
            match text.parse::<Reference>() {
                Ok(reference) if reference.selector.is_some() => Ok(()),
                Ok(_) => Err(format!("the dockerReference {text:?} has neither a tag nor a digest")),
                Err(fault) => Err(format!("the dockerReference is no image: {fault}")),
            }
        }
        "exactRepository" => {
            fields.only(&["type", "dockerRepository"])?;
            let text = fields.filled("dockerRepository")?;
            text.parse::<Reference>().map(drop).map_err(|fault| format!("the dockerRepository is none: {fault}"))
        }
        "remapIdentity" => {
            fields.only(&["type", "prefix", "signedPrefix"])?;
            ["prefix", "signedPrefix"].iter().try_for_each(|key| {
                let prefix = fields.filled(key)?;
                let below = format!("{prefix}/x").parse::<Reference>();
                below.map(drop).map_err(|_| format!("the {key} {prefix:?} is no host and no namespace"))
            })
        }
        other => Err(format!("there is no identity of the type {other:?}")),
    }
}

/// The fields of an object.
struct Fields<'a>(&'a [(String, Json)]);

impl<'a> Fields<'a> {
    fn of(value: &'a Json) -> Result<Self, String> {
        match value {
            Json::Object(entries) => Ok(Fields(entries)),
            other => Err(format!("{} stands where an object belongs", other.sort())),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Json> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(format!("the key {key:?} is not known")),
            None => Ok(()),
        }
    }

    /// A text, if it is there.
    fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{key} is {}, not a text", other.sort())),
        }
    }

    /// A text that must be there and not be empty.
    fn filled(&self, key: &str) -> Result<&'a str, String> {
        self.text(key)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("{key} is missing or empty"))
    }

    /// At most one of `keys` may be there; with `needed`, exactly one.
    fn one_of(&self, keys: &[&str], needed: bool) -> Result<(), String> {
        match keys.iter().filter(|key| self.get(key).is_some()).count() {
            1 => Ok(()),
            0 if !needed => Ok(()),
            0 => Err(format!("one of {} is needed", keys.join(", "))),
            _ => Err(format!("only one of {} may be there", keys.join(", "))),
        }
    }

    /// Checks the forms in which keys and certificates are given: a path, paths, base64, several of base64.
    fn key(&self, path: &str, paths: &str, data: &str, datas: &str) -> Result<(), String> {
        if self.get(path).is_some() {
            self.filled(path)?;
        }
        let decodes = |text: &str| STANDARD.decode(text).is_ok();
        if let Some(text) = self.text(data)?
            && !decodes(text)
        {
            return Err(format!("{data} is not base64"));
        }
        for (key, encoded) in [(paths, false), (datas, true)] {
            match self.get(key) {
                None => {}
                Some(Json::List(list)) if !list.is_empty() => {
                    let fits = |value: &Json| matches!(value, Json::Text(text) if !encoded || decodes(text));
                    if !list.iter().all(fits) {
                        return Err(format!(
                            "{key} holds something else than {}",
                            if encoded { "base64" } else { "paths" }
                        ));
                    }
                }
                Some(_) => return Err(format!("{key} is not a list with an entry")),
            }
        }
        Ok(())
    }
}
