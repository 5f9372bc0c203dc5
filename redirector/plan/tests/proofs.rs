//! What stands for services whose clients need a proof, and what is refused (P-6, P-10, P-15).

mod common;

use common::{compiled, grammar, refusals, small, url, zone};
use redirector_core::hash::Keys;
use redirector_core::lookup::{Labels, rule};
use redirector_core::table::{NAME_PARTIAL, NameEntry, SERVICE_PORT, SERVICE_PROOF, SPACE_DNS, Tables};
use redirector_plan::compile::Compiled;
use redirector_plan::model::{
    Authorised, Binding, DnsAnswer, NameKey, Network, Origin, Otherwise, Sealed, Signed, Unauthorised,
};
use redirector_plan::proofs::{Asks, Bad};

fn key(name: &str, id: u8) -> NameKey {
    let origin = Origin::default();
    NameKey { name: name.into(), id, secret: [id; 32], signs: true, from: 0, until: u64::MAX, origin }
}

fn with_keys() -> Network {
    Network { keys: vec![key("a", 1), key("b", 2)], ..small() }
}

fn signed(otherwise: Otherwise) -> Option<Signed> {
    Some(Signed { keys: vec!["b".into()], otherwise })
}

fn authorised(otherwise: Unauthorised) -> Option<Authorised> {
    Some(Authorised { keys: vec!["a".into()], parameter: "token".into(), otherwise })
}

/// What a name before the small network's suffix leads to.
fn found(compiled: &Compiled, codepoint: &str) -> NameEntry {
    let keys: &Keys = &compiled.image.meta.keys;
    let mut labels = Labels::default();
    let names: Vec<&str> = codepoint.split('.').collect();
    for (place, label) in labels.hashes.iter_mut().zip(&names) {
        *place = keys.text(label.as_bytes(), true);
    }
    let image = &compiled.image;
    rule(image, &labels, names.len(), SPACE_DNS, 0, image.zone(0).expect("zone"))
}

fn flags(compiled: &Compiled, service: u32) -> u16 {
    compiled.image.services[service as usize].flags
}

#[test]
fn a_signed_rule_leads_to_what_stands_for_its_service() {
    let mut network = with_keys();
    network.zones[0].grammars.push(grammar("{object}.{tag}.gold", 1));
    network.zones[0].grammars[2].signed = signed(Otherwise::Service("tv".into()));
    let compiled = compiled(&network);
    let entry = found(&compiled, "film.t1.gold");
    assert_eq!(flags(&compiled, entry.value), SERVICE_PROOF);
    let spec = compiled.proof(entry.value).expect("a proof");
    assert_eq!(
        (&spec.asks, &spec.keys[..], spec.good, spec.bad),
        (&Asks::Grade(1), &[1][..], 1, Bad::Service(0))
    );
    assert_eq!(compiled.written(&network, entry.value), Some(1));
    let plain = found(&compiled, "film.web.abc");
    assert_eq!((plain.value, compiled.proof(plain.value)), (1, None));
}

#[test]
fn no_rule_leads_past_the_proof_of_a_service_for_some_alone() {
    for otherwise in [
        Unauthorised::Like(Otherwise::Refuse),
        Unauthorised::Like(Otherwise::Empty),
        Unauthorised::Like(Otherwise::Service("tv".into())),
        Unauthorised::Port(9),
    ] {
        let mut network = with_keys();
        network.services[1].authorised = authorised(otherwise.clone());
        network.urls.push(url("http://{object}.{tag}.cdn.acme.net/x", 1));
        network.urls[2].signed = signed(Otherwise::Refuse);
        let compiled = compiled(&network);
        let reached = compiled.image.names.iter().flat_map(|bucket| bucket.entries);
        let reached = reached.filter(|entry| entry.fingerprint != 0 && entry.flags & NAME_PARTIAL == 0);
        assert!(
            reached.clone().count() > 3 && reached.clone().all(|entry| entry.value != 1),
            "{otherwise:?}"
        );
        let entry = found(&compiled, "film.web.abc");
        match otherwise {
            // Whoever asks by a name without a label for a tag is not authorised.
            Unauthorised::Like(Otherwise::Service(_)) => assert_eq!(entry.value, 0),
            _ => assert_eq!(flags(&compiled, entry.value), SERVICE_PROOF),
        }
    }
}

#[test]
fn the_port_that_servers_ignore_is_told_by_a_service_of_its_own() {
    let mut network = with_keys();
    network.services[1].authorised = authorised(Unauthorised::Port(9));
    network.services[1].https = Some(Binding { alpn: vec![], port: 8443 });
    let compiled = compiled(&network);
    let spec = compiled.proof(found(&compiled, "film.web.abc").value).expect("a proof");
    let Bad::Port(other) = spec.bad else { panic!("{spec:?}") };
    let (own, twin) = (compiled.image.services[1], compiled.image.services[other as usize]);
    assert_eq!((twin.flags, twin.port), (own.flags | SERVICE_PORT, 9));
    assert_eq!((twin.salt, twin.coverage, twin.counter), (own.salt, own.coverage, own.counter));
    assert_ne!(twin.binding, own.binding);
    assert_eq!((compiled.other_port(other), compiled.other_port(1)), (Some(9), None));
    assert_eq!(compiled.written(&network, other), Some(1));
}

#[test]
fn names_that_lead_to_the_vip_ask_for_nothing_and_urls_do() {
    let mut network = with_keys();
    network.services[1].authorised = authorised(Unauthorised::Like(Otherwise::Refuse));
    network.services[1].dns = DnsAnswer::Vip;
    let compiled = compiled(&network);
    assert_eq!(found(&compiled, "film.web.abc").value, 1);
    let asks = (0..compiled.image.services.len() as u32).filter_map(|number| compiled.proof(number));
    let asks: Vec<&Asks> = asks.map(|spec| &spec.asks).collect();
    assert_eq!(asks, [&Asks::Access { place: None, parameter: Some("token".into()) }]);
}

#[test]
fn sealed_names_have_one_to_three_labels_and_come_before_patterns() {
    let mut network = with_keys();
    network.zones[0].grammars.push(grammar("{a}.{b}", 0));
    network.zones[0].sealed =
        Some(Sealed { label: "x".into(), keys: vec!["a".into()], otherwise: Otherwise::Empty });
    let compiled = compiled(&network);
    for name in ["s.x", "s.s.x", "s.s.s.x"] {
        let spec =
            compiled.proof(found(&compiled, name).value).unwrap_or_else(|| panic!("{name} asks for nothing"));
        assert_eq!((&spec.asks, spec.bad, spec.zone), (&Asks::Seal, Bad::Empty, Some(0)), "{name}");
    }
    assert_eq!(found(&compiled, "s.s.s.s.x").fingerprint, 0);
    assert_eq!(found(&compiled, "x").flags, NAME_PARTIAL);
    assert_eq!((found(&compiled, "s.y").value, found(&compiled, "film.web.abc").value), (0, 1));
    // Explanations still find the rule of an ordinary name.
    let order = found(&compiled, "film.web.abc").order;
    let rule = compiled.grammar(&network, 0, order, &["film", "web", "abc"]).expect("a grammar");
    assert_eq!(rule.service, 1);
}

#[test]
fn what_proofs_refer_to_exists_and_is_for_everybody() {
    type Change = fn(&mut Network);
    let refused = |change: Change| {
        let mut network = with_keys();
        network.zones[0].grammars.push(grammar("{object}.{tag}.gold", 1));
        change(&mut network);
        refusals(&network).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let cases: [(Change, &str); 6] = [
        (
            |n| {
                n.zones[0].grammars[2].signed =
                    Some(Signed { keys: vec!["c".into()], otherwise: Otherwise::Refuse })
            },
            "key \"c\" counts, and there is none",
        ),
        (
            |n| n.zones[0].grammars[0].signed = signed(Otherwise::Refuse),
            "signed names have no label for the tag",
        ),
        (
            |n| n.zones[0].grammars[2].signed = signed(Otherwise::Service("gone".into())),
            "others get service \"gone\", and there is none",
        ),
        (
            |n| {
                n.services[0].authorised = authorised(Unauthorised::Like(Otherwise::Refuse));
                n.zones[0].ill_formed = Some(Otherwise::Service("tv".into()));
            },
            "others get service \"tv\", which is for those who are authorised",
        ),
        (
            |n| {
                n.services[1].authorised = authorised(Unauthorised::Like(Otherwise::Refuse));
                n.zones[0].grammars[2].signed = signed(Otherwise::Refuse);
            },
            "names that are signed lead to a service whose tags are tokens",
        ),
        (
            |n| {
                n.zones.push(zone("tv.cdn.acme.net", vec![grammar("{channel}", 0)]));
                n.zones[1].ill_formed = Some(Otherwise::Empty);
            },
            "URLs of its hosts are looked up with those of a shorter suffix",
        ),
    ];
    for (change, expected) in cases {
        let told = refused(change);
        assert!(told.contains(expected), "{expected}: {told}");
    }
}
