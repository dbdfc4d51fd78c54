//! `ureq`, and libcurl.

use crate::servers::{has, nginx};
use clients::{CLIENTS, at_once};
use switchgrass::monkey;

/// Each has some kilobytes to wait for: nobody is done before all have asked.
fn pages() -> impl Iterator<Item = usize> {
    (0..CLIENTS).map(|number| 12 + number % 3)
}

#[test]
fn ureq_gets_fifty_pages_of_nginx_at_once() {
    if !has("nginx") {
        return;
    }
    monkey::patch_all();
    let server = nginx(None);
    let address = server.address;
    let agent = ureq::agent();
    let lengths = at_once(move |number| {
        let page = pages().nth(number).unwrap();
        let mut answer = agent.get(format!("http://{address}/{page}")).call().unwrap();
        answer.body_mut().read_to_vec().unwrap().len()
    });
    assert_eq!(lengths, pages().map(|page| page * 1000).collect::<Vec<_>>());
}

/// libcurl waits by `poll`, and its look-ups of names are threads of its own.
#[test]
fn libcurl_gets_fifty_pages_of_nginx_at_once() {
    if !has("nginx") {
        return;
    }
    monkey::patch_all();
    let server = nginx(None);
    let port = server.address.port();
    let lengths = at_once(move |number| {
        let page = pages().nth(number).unwrap();
        let mut length = 0;
        let mut easy = curl::easy::Easy::new();
        easy.url(&format!("http://localhost:{port}/{page}")).unwrap();
        let mut transfer = easy.transfer();
        let mut add = |data: &[u8]| {
            length += data.len();
            Ok(data.len())
        };
        transfer.write_function(&mut add).unwrap();
        transfer.perform().unwrap();
        drop(transfer);
        length
    });
    assert_eq!(lengths, pages().map(|page| page * 1000).collect::<Vec<_>>());
}
