//! What `dig` and `kdig` report: their formats differ in little.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};

/// An answer as a DNS client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsReport {
    /// Response code, as `NOERROR`.
    pub status: String,
    /// Header flags, as `aa`.
    pub flags: Vec<String>,
    /// EDNS version, if the answer has EDNS.
    pub edns: Option<u8>,
    /// Client subnet with both lengths, as `198.51.100.0/24/24`.
    pub subnet: Option<String>,
    /// Bytes of the cookie; with a server cookie more than eight.
    pub cookie: Option<usize>,
    /// Name of the server that answered.
    pub nsid: Option<String>,
    /// Name and type of the question, the name in the case that came back.
    pub question: Option<(String, String)>,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authority: Vec<Record>,
    /// Additional section without EDNS.
    pub additional: Vec<Record>,
}

/// A resource record of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Owner name, with a dot at its end.
    pub name: String,
    /// TTL in seconds.
    pub ttl: u32,
    /// Type, as `AAAA`.
    pub kind: String,
    /// Data in presentation form.
    pub data: String,
}

impl DnsReport {
    /// Reads a report that shows header, question, EDNS and all sections with their titles.
    ///
    /// # Errors
    /// If there is no answer, or something that is not understood.
    pub(super) fn parse(report: &str) -> Result<Self> {
        let Some((_, rest)) = report.split_once("status: ") else { bail!("no header in:\n{report}") };
        let status = rest.split([',', ';']).next().unwrap_or_default().trim().to_owned();
        let line = rest
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix(";; flags:").map(str::to_owned));
        let line = line.with_context(|| format!("no flags in:\n{report}"))?;
        let flags =
            line.split(';').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let mut this = Self {
            status,
            flags,
            edns: None,
            subnet: None,
            cookie: None,
            nsid: None,
            question: None,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
        };
        let mut section = "";
        for line in rest.lines().skip(1) {
            let title = line.strip_suffix("SECTION:").and_then(|title| title.strip_prefix(";; "));
            match title {
                Some(title) => section = title.trim_end(),
                None => this.take(section, line).with_context(|| format!("section {section}: {line}"))?,
            }
        }
        Ok(this)
    }

    /// Takes one line of a section.
    fn take(&mut self, section: &str, line: &str) -> Result<()> {
        let comment = line.starts_with(';');
        let text = line.trim_start_matches([';', ' ']);
        match section {
            _ if text.is_empty() => {}
            "OPT PSEUDO" | "EDNS PSEUDO" => self.take_edns(text)?,
            "QUESTION" if self.question.is_none() => {
                let fields: Vec<&str> = text.split_whitespace().collect();
                let [name, "IN" | "CH", kind] = &fields[..] else { bail!("not a question") };
                self.question = Some(((*name).into(), (*kind).into()));
            }
            "ANSWER" if !comment => self.answers.push(Record::parse(text)?),
            "AUTHORITY" if !comment => self.authority.push(Record::parse(text)?),
            "ADDITIONAL" if !comment => self.additional.push(Record::parse(text)?),
            _ => ensure!(comment, "a line outside of the sections"),
        }
        Ok(())
    }

    /// Takes one line about EDNS.
    fn take_edns(&mut self, line: &str) -> Result<()> {
        let first = |text: &str| text.split([' ', ',', ';']).next().unwrap_or_default().to_owned();
        if let Some((_, version)) = line.to_ascii_lowercase().split_once("version: ") {
            self.edns = Some(first(version).parse()?);
        } else if let Some(subnet) = line.strip_prefix("CLIENT-SUBNET: ") {
            self.subnet = Some(first(subnet));
        } else if let Some(cookie) = line.strip_prefix("COOKIE: ") {
            self.cookie = Some(first(cookie).len() / 2);
        } else if let Some(nsid) = line.strip_prefix("NSID: ") {
            self.nsid = nsid.split('"').nth(1).map(str::to_owned);
        }
        Ok(())
    }

    /// The addresses in the answer section.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.answers.iter().filter_map(|record| record.data.parse().ok()).collect()
    }

    /// Whether the header has this flag, as `aa`.
    #[must_use]
    pub fn flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|each| each == flag)
    }
}

impl Record {
    /// `name TTL class type data…`
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, ttl, "IN" | "CH", kind, data @ ..] = &fields[..] else { bail!("not a record") };
        let ttl = ttl.parse().context("TTL")?;
        Ok(Self { name: (*name).into(), ttl, kind: (*kind).into(), data: data.join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIG: &str = ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n\
        ;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 1, ADDITIONAL: 1\n\
        ;; WARNING: recursion requested but not available\n\n\
        ;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n\
        ; CLIENT-SUBNET: 198.51.100.0/24/20\n; COOKIE: 0123456789abcdef0100000069202e7e7700000000000000 (good)\n\
        ; NSID: 62 6f 78 (\"box\")\n\
        ;; QUESTION SECTION:\n;a.Example.net.\t\tIN\tAAAA\n\n\
        ;; ANSWER SECTION:\na.Example.net.\t\t30\tIN\tAAAA\t2001:db8::1\n\n\
        ;; AUTHORITY SECTION:\nexample.net.\t60\tIN\tNS\tns1.example.net.\n";
    const KDIG: &str = ";; ->>HEADER<<- opcode: QUERY; status: NOERROR; id: 21592\n\
        ;; Flags: qr aa rd; QUERY: 1; ANSWER: 1; AUTHORITY: 1; ADDITIONAL: 1\n\n\
        ;; EDNS PSEUDOSECTION:\n;; Version: 0; flags: ; UDP size: 1232 B; ext-rcode: NOERROR\n\
        ;; CLIENT-SUBNET: 198.51.100.0/24/20\n\
        ;; COOKIE: 0123456789ABCDEF0100000069202E7E7700000000000000\n;; NSID: 626F78 \"box\"\n\n\
        ;; QUESTION SECTION:\n;; a.Example.net.     \t\tIN\tAAAA\n\n\
        ;; ANSWER SECTION:\na.Example.net.     \t30\tIN\tAAAA\t2001:db8::1\n\n\
        ;; AUTHORITY SECTION:\nexample.net.     \t60\tIN\tNS\tns1.example.net.\n";

    #[test]
    fn reports_of_both_programs_are_read_alike() {
        let dig = DnsReport::parse(DIG).unwrap();
        assert_eq!((dig.status.as_str(), dig.flags.join(" ")), ("NOERROR", "qr aa rd".into()));
        assert_eq!(dig.addresses(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert_eq!((dig.answers[0].ttl, &*dig.authority[0].data), (30, "ns1.example.net."));
        assert_eq!(dig.question, Some(("a.Example.net.".into(), "AAAA".into())));
        assert_eq!((dig.edns, dig.additional.len()), (Some(0), 0));
        assert_eq!((dig.subnet.as_deref(), dig.cookie), (Some("198.51.100.0/24/20"), Some(24)));
        assert_eq!(dig.nsid.as_deref(), Some("box"));
        assert_eq!(DnsReport::parse(KDIG).unwrap(), dig);
    }

    #[test]
    fn a_report_without_an_answer_is_an_error() {
        assert!(DnsReport::parse(";; communications error: timed out\n").is_err());
        let cut = DIG.replace("\t30\t", "\tx\t");
        assert!(format!("{:#}", DnsReport::parse(&cut).unwrap_err()).contains("TTL"));
    }
}
