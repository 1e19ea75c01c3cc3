//! Our own tracker, as pages load it.
//!
//! - `/t.js`: asked for again after an hour, so that a new gateway's tracker reaches pages within one.
//! - `/t.HASH.js`: the same bytes for ever, for pages that pin them by `integrity`. Only the gateway that has these bytes
//!   serves them: after an upgrade the path is another, since pinned pages must not run what they did not pin.
//! - `/t.js.integrity`: the element to copy into a pinned page.
//!
//! Everybody may read a script, so it answers with `*` instead of the asker's origin ([`crate::cors`] leaves that alone):
//! a shared cache then needs one copy and not one for each site.
//!
//! The script is `trackers/web/t.js`, made small by `cargo xtask tracker`, which also computes its digest.

use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use crate::reply::Reply;

const SCRIPT: &[u8] = include_bytes!("../../../trackers/web/t.min.js");
const INTEGRITY: &str = include_str!("../../../trackers/web/t.min.js.integrity");

const PATH: &str = "/t.js";
const INTEGRITY_PATH: &str = "/t.js.integrity";

/// An hour; for a day more, a cache may answer with the old one while it fetches the new one.
const FRESH: &str = "public, max-age=3600, stale-while-revalidate=86400";
const FOR_EVER: &str = "public, max-age=31536000, immutable";

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// The script in one encoding.
struct Variant {
    body: Bytes,
    /// Strong, so another for each encoding.
    etag: HeaderValue,
}

struct Script {
    plain: Variant,
    gzip: Variant,
    /// `/t.HASH.js`.
    pinned_path: String,
}

static THE_SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    let hash = &blake3::hash(SCRIPT).to_hex()[..16];
    let etag = |suffix| HeaderValue::from_str(&format!("\"{hash}{suffix}\"")).expect("hex digits are visible");
    Script {
        plain: Variant { body: Bytes::from_static(SCRIPT), etag: etag("") },
        gzip: Variant { body: gzip(SCRIPT), etag: etag("-gzip") },
        pinned_path: format!("/t.{hash}.js"),
    }
});

/// The answer, if the path is one of the script's.
pub(crate) fn answer(method: &Method, path: &str, asked: &HeaderMap) -> Option<Reply> {
    // Any other path is told apart by its first bytes, before anything is computed.
    if !path.starts_with("/t.") || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let script = &*THE_SCRIPT;
    match path {
        PATH => Some(serve(script, FRESH, asked)),
        INTEGRITY_PATH => Some(element(script, asked)),
        path if path == script.pinned_path => Some(serve(script, FOR_EVER, asked)),
        _ => None,
    }
}

fn serve(script: &Script, cache: &'static str, asked: &HeaderMap) -> Reply {
    let zipped = takes_gzip(asked);
    let variant = if zipped { &script.gzip } else { &script.plain };
    let mut reply = if has_already(asked, &variant.etag) {
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let mut reply = text("text/javascript; charset=utf-8", variant.body.clone());
        if zipped {
            reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        reply
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, variant.etag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    readable_by_all(headers);
    reply
}

/// `<script …>` with the digest, at the address under which the asker knows us.
fn element(script: &Script, asked: &HeaderMap) -> Reply {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let host = asked.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| !host.is_empty() && host.chars().all(plain)).unwrap_or("GATEWAY");
    let (path, integrity) = (&script.pinned_path, INTEGRITY.trim());
    let element = format!(
        "<script async src=\"//{host}{path}\" integrity=\"{integrity}\" crossorigin=\"anonymous\" \
         data-key=\"WRITE_KEY\"></script>\n"
    );
    let mut reply = text("text/plain; charset=utf-8", element.into());
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Host"));
    readable_by_all(headers);
    reply
}

fn text(content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Reply::new(Full::new(body));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// `crossorigin` asks for the first, pages isolated by COEP for the second, performance panels for the third.
fn readable_by_all(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// All values of a header that is a list, one by one.
fn listed<'a>(asked: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = asked.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    listed(asked, &header::ACCEPT_ENCODING).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(0.0)
    })
}

/// Proxies that compress mark a tag as weak; its bytes are ours all the same.
fn has_already(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    listed(asked, &header::IF_NONE_MATCH)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == etag.as_bytes())
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all").into()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http_body_util::BodyExt as _;

    use super::*;

    fn get(path: &str, asked: &[(HeaderName, &str)]) -> Option<Reply> {
        let asked = asked.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("visible")));
        answer(&Method::GET, path, &asked.collect())
    }

    fn script(asked: &[(HeaderName, &str)]) -> Reply {
        get(PATH, asked).expect("it is there")
    }

    fn value(reply: &Reply, name: impl header::AsHeaderName) -> &str {
        reply.headers().get(name).map_or("", |value| value.to_str().expect("visible"))
    }

    fn body(reply: Reply) -> Vec<u8> {
        let body = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(reply.into_body().collect());
        body.expect("it is whole").to_bytes().to_vec()
    }

    #[test]
    fn the_script_goes_plain_or_gzipped_with_a_tag_for_each() {
        let plain = script(&[]);
        let zipped = script(&[(header::ACCEPT_ENCODING, "br, gzip;q=0.8")]);
        for reply in [&plain, &zipped] {
            assert_eq!(reply.status(), StatusCode::OK);
            assert_eq!(value(reply, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!(value(reply, header::VARY), "Accept-Encoding");
            assert_eq!(value(reply, header::CACHE_CONTROL), FRESH);
            assert_eq!(value(reply, header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
            assert_eq!(value(reply, RESOURCE_POLICY), "cross-origin");
        }
        assert_eq!([value(&plain, header::CONTENT_ENCODING), value(&zipped, header::CONTENT_ENCODING)], ["", "gzip"]);
        assert_ne!(value(&plain, header::ETAG), value(&zipped, header::ETAG));
        assert_eq!(body(plain), SCRIPT);
        let zipped = body(zipped);
        assert!(zipped.len() < 2048, "{} bytes", zipped.len());
        let mut unzipped = Vec::new();
        GzDecoder::new(&zipped[..]).read_to_end(&mut unzipped).expect("it is gzip");
        assert_eq!(unzipped, SCRIPT);
    }

    #[test]
    fn encodings_are_taken_at_their_word() {
        for (asked, zipped) in [
            ("gzip", true),
            ("GZIP", true),
            ("deflate,gzip ; q=0.1", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br, zstd", false),
            ("gzipped", false),
            ("", false),
        ] {
            let reply = script(&[(header::ACCEPT_ENCODING, asked)]);
            assert_eq!(value(&reply, header::CONTENT_ENCODING) == "gzip", zipped, "{asked}");
        }
    }

    #[test]
    fn who_has_it_gets_no_body() {
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let etag = value(&script(std::slice::from_ref(&gzip)), header::ETAG).to_owned();
        for known in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let reply = script(&[gzip.clone(), (header::IF_NONE_MATCH, &known)]);
            assert_eq!(reply.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!((value(&reply, header::ETAG), value(&reply, header::VARY)), (&*etag, "Accept-Encoding"));
            assert_eq!(value(&reply, header::CACHE_CONTROL), FRESH);
            assert_eq!(body(reply), b"");
        }
        // The tag of other bytes: of another script, or of this one in another encoding.
        for (asked, known) in [(vec![gzip.clone()], "\"other\""), (vec![], &*etag)] {
            let asked = [asked, vec![(header::IF_NONE_MATCH, known)]].concat();
            assert_eq!(script(&asked).status(), StatusCode::OK, "{known}");
        }
    }

    #[test]
    fn a_pinned_page_finds_its_element_and_the_bytes_for_ever() {
        let reply = get(INTEGRITY_PATH, &[(header::HOST, "track.example:7070")]).expect("it is there");
        assert_eq!(value(&reply, header::CONTENT_TYPE), "text/plain; charset=utf-8");
        let element = String::from_utf8(body(reply)).expect("text");
        let path = &THE_SCRIPT.pinned_path;
        assert!(element.contains(&format!("src=\"//track.example:7070{path}\"")), "{element}");
        assert!(element.contains("integrity=\"sha384-"), "{element}");
        let pinned = get(path, &[]).expect("it is there");
        assert_eq!(value(&pinned, header::CACHE_CONTROL), FOR_EVER);
        assert_eq!(body(pinned), SCRIPT);
        let strange = get(INTEGRITY_PATH, &[(header::HOST, "\"><script>")]).expect("it is there");
        assert!(String::from_utf8_lossy(&body(strange)).contains("src=\"//GATEWAY/t."));
    }

    #[test]
    fn other_paths_and_methods_are_not_the_scripts() {
        for path in ["/t.0123456789abcdef.js", "/t.jsx", "/t", "/t.js/", "/v1/track"] {
            assert!(get(path, &[]).is_none(), "{path}");
        }
        assert!(answer(&Method::POST, PATH, &HeaderMap::new()).is_none());
        assert!(answer(&Method::HEAD, PATH, &HeaderMap::new()).is_some());
    }
}
