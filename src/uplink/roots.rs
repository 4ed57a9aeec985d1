//! Who may vouch for an engine's certificate, when it is not the bundled roots: a company's own authority, or one made for
//! a test.

use std::sync::Arc;

/// Root certificates in DER, which take the place of the bundled ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoots {
    certificates: Arc<Vec<Vec<u8>>>,
    from: Arc<str>,
}

impl TrustedRoots {
    /// From the text of a PEM file; whatever else it holds is passed over. `from` names setting and file, as in
    /// `--ca-file ca.pem`.
    ///
    /// # Errors
    /// What is wrong with the text, or that it holds no certificate.
    #[cfg(feature = "tls")]
    pub fn from_pem(text: &[u8], from: &str) -> Result<Self, String> {
        use rustls::RootCertStore;
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let found = found.map_err(|e| format!("is no PEM file: {e}"))?;
        let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
        match usable {
            0 => Err("holds no certificate that can be used".to_owned()),
            _ => Ok(Self {
                certificates: Arc::new(found.iter().map(|one| one.to_vec()).collect()),
                from: from.into(),
            }),
        }
    }

    /// A program without encryption needs none.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "tls"))]
    pub fn from_pem(_: &[u8], from: &str) -> Result<Self, String> {
        Ok(Self {
            certificates: Arc::default(),
            from: from.into(),
        })
    }

    /// Setting and file that they are from.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// For the WebSocket.
    #[cfg(feature = "tls")]
    pub(super) fn store(&self) -> rustls::RootCertStore {
        let mut store = rustls::RootCertStore::empty();
        // Bundles hold certificates that nothing can be done with any more; the others serve.
        store.add_parsable_certificates(self.certificates.iter().map(|one| one.clone().into()));
        store
    }

    /// For HTTP calls.
    #[cfg(feature = "tls")]
    pub(super) fn for_http(&self) -> ureq::tls::RootCerts {
        let all = self.certificates.iter();
        let all = all.map(|one| ureq::tls::Certificate::from_der(one).to_owned());
        ureq::tls::RootCerts::Specific(Arc::new(all.collect()))
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_told_from_one_with() {
        for text in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let why = TrustedRoots::from_pem(text.as_bytes(), "a test").expect_err(text);
            assert!(why.contains("holds no certificate"), "{why}");
        }
        let made = rcgen::generate_simple_self_signed(["engine.invalid".to_owned()]).expect("made");
        let pem = format!("a comment\n{}", made.cert.pem());
        let roots = TrustedRoots::from_pem(pem.as_bytes(), "a test").expect("one");
        assert_eq!(roots.store().len(), 1);
    }
}
