//! The lab itself: what the other tests and the demo stand on.

use std::{fs, net::SocketAddr, path::Path};

use redirector_tests::{
    lab::{
        Lab,
        config::configuration,
        topology::{Family, RTSP_PATH, RTSP_PORT, Role, WEB_PORT, names, node, with_role},
    },
    require_lab,
};

#[test]
fn every_client_reaches_every_server_by_http_and_rtsp_over_both_families() {
    let Some(lab) = require_lab() else { return };
    for client in with_role(Role::Client) {
        for family in Family::ALL {
            let here = lab.client(client.name, family);
            for server in with_role(Role::Server) {
                let address = server.own.of(family);
                let page =
                    here.curl(&format!("http://{}/a/page.html", SocketAddr::new(address, WEB_PORT))).unwrap();
                assert_eq!((page.status, page.body.trim(), page.address), (200, server.name, address));
                let rtsp = SocketAddr::new(address, RTSP_PORT);
                let video = here.ffprobe(&format!("rtsp://{rtsp}{RTSP_PATH}")).unwrap();
                assert_eq!((video.server(), &video.connected[..]), (Some(server), &[rtsp][..]));
            }
        }
    }
}

#[test]
fn a_stopped_server_is_gone_until_it_is_started_again() {
    let Some(lab) = require_lab() else { return };
    let server = node("s-fr");
    let client = lab.client("c-fr", Family::V4);
    let url = format!("http://{}/", server.own.v4);
    lab.stop_servers(server.name).unwrap();
    let error = client.curl(&url).unwrap_err().to_string();
    assert!(error.contains("exit status: 7") && error.contains(&url), "{error}");
    lab.start_servers(server.name).unwrap();
    assert_eq!(client.curl(&url).unwrap().body.trim(), server.name);
}

#[test]
fn nothing_is_left_of_a_dropped_lab_and_another_is_untouched() {
    let (Some(first), Some(second)) = (require_lab(), require_lab()) else { return };
    let namespaces = |lab: &Lab| names().map(|name| lab.namespace(name)).collect::<Vec<_>>();
    let (gone, kept) = (namespaces(&first), namespaces(&second));
    let dir = first.dir().to_owned();
    drop(first);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("{}/", dir.display())), "{mounts}");
    for namespace in gone {
        assert!(!Path::new("/run/netns").join(&namespace).exists(), "{namespace}");
        assert!(!Path::new("/etc/netns").join(&namespace).exists(), "{namespace}");
    }
    assert!(!dir.exists());
    assert!(kept.iter().all(|namespace| Path::new("/run/netns").join(namespace).exists()));
}

#[test]
fn the_configuration_of_the_labs_boxes_is_accepted_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    for each in with_role(Role::Box) {
        let file = dir.path().join(each.name);
        fs::write(&file, configuration(each.name)).unwrap();
        let config = redirector::config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert_eq!(config.network.vips[0].ipv4, [each.vip.unwrap().v4]);
        assert_eq!(config.network.targets.len(), with_role(Role::Server).count());
    }
}
