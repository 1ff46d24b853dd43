//! Downloads that break off, answers that are wrong, servers that are busy: what is tried again, what is kept, and what is an
//! error.

use std::time::Duration;

use fanlight::hub::Want;

use crate::cache::{Cache, assert_whole};
use crate::server::{Fault, Hub, LARGE, content, sha256};

/// A download that was cut off goes on at the next byte, in the same run and in a later one.
#[test]
fn resumes_at_the_byte() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::Cut(50_000));
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(log.pauses.len(), 2);
    let froms: Vec<_> = hub.downloads().iter().map(|request| request.from).collect();
    assert_eq!(froms, [None, Some(100_000), Some(150_000)]);
    assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), LARGE);
    // Every attempt asks for the address again, since signed addresses expire.
    assert_eq!(hub.log().iter().filter(|r| r.target.ends_with("/model.safetensors")).count(), 3);

    // A run that gives up keeps the part that it has downloaded.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(123_456));
    hub.fail("/blob/", 9, Fault::Cut(0));
    let (result, log) = cache.get(&hub);
    assert_eq!((result.unwrap_err().code(), log.pauses.len()), ("network", 5));
    let digest = sha256(&content(1, LARGE));
    let part = cache.repo().join("blobs").join(format!("{digest}.incomplete"));
    assert_eq!(cache.incomplete(), [(part.clone(), 123_456)]);
    assert!(!cache.repo().join("refs").exists());
    hub.forget();
    assert_whole(&cache.get(&hub).0);
    assert_eq!(
        hub.downloads().iter().map(|r| (r.from, r.sent)).collect::<Vec<_>>(),
        [(Some(123_456), LARGE - 123_456)]
    );
    assert!(cache.incomplete().is_empty());

    // The part that an earlier run left may be the whole file, longer than it, or other bytes.
    let whole = content(1, LARGE);
    for (left, sent) in [(whole.clone(), 0), ([&whole[..], b"x"].concat(), LARGE), (content(7, 1000), 2 * LARGE - 1000)]
    {
        let (hub, cache) = (Hub::single(), Cache::new());
        let part = cache.repo().join("blobs").join(part.file_name().unwrap());
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(&part, left).unwrap();
        let (result, log) = cache.get(&hub);
        assert_whole(&result);
        assert_eq!(hub.downloads().iter().map(|request| request.sent).sum::<usize>(), sent);
        assert_eq!(log.notes.len(), usize::from(sent > LARGE), "{:?}", log.notes);
    }
}

#[test]
fn servers_that_cannot_resume() {
    // A server without ranges: the download starts again from the beginning.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::NoRanges);
    assert_whole(&cache.get(&hub).0);
    assert_eq!(hub.downloads().iter().map(|request| request.sent).collect::<Vec<_>>(), [100_000, LARGE]);
    // A range other than the one asked for: the download starts again, and asks for no ranges any more.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Cut(100_000));
    hub.fail("/blob/", 1, Fault::WrongRange);
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert_eq!(hub.downloads().iter().map(|request| request.from).collect::<Vec<_>>(), [None, Some(100_000), None]);
    assert!(log.pauses[1].1.contains("range"), "{:?}", log.pauses);
    // A server that always breaks off at the same place is given up after some attempts.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 99, Fault::Short(100_000));
    assert_eq!(cache.get(&hub).0.unwrap_err().code(), "network");
    assert_eq!(hub.downloads().len(), 6);
}

#[test]
fn silence_is_a_fault() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Stall(200_000));
    let mut options = cache.options(&hub);
    options.stall = Duration::from_millis(300);
    let (result, log) = cache.get_as(&options, &Want::default());
    assert_whole(&result);
    assert!(log.pauses.iter().any(|(_, error)| error.contains("200000 of 300000")), "{:?}", log.pauses);
    assert_eq!(hub.downloads().last().unwrap().from, Some(200_000));
}

#[test]
fn contents_that_are_not_the_listed_ones() {
    for (fault, word) in
        [(Fault::Flipped, "sha256"), (Fault::Truncated, "299993 bytes"), (Fault::Longer, "more"), (Fault::Html, "HTML")]
    {
        let (hub, cache) = (Hub::single(), Cache::new());
        hub.fail("/blob/", 1, fault);
        let (result, log) = cache.get(&hub);
        let error = result.unwrap_err();
        assert!(error.code() == "integrity" && error.to_string().contains(word), "{fault:?}: {error}");
        assert!(log.pauses.is_empty() && !cache.repo().join("refs").exists(), "{fault:?}");
        assert!(cache.incomplete().iter().all(|(_, length)| *length == 0), "{fault:?}: {:?}", cache.incomplete());
        if fault == Fault::Flipped {
            assert!(error.to_string().contains("discarded") && cache.incomplete().is_empty());
        }
        hub.forget();
        assert_whole(&cache.get(&hub).0);
    }
    // Small files are checked against git's sha1.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("resolve-cache", 1, Fault::Flipped);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "integrity" && error.to_string().contains("sha1"), "{error}");
    // A page instead of the API's answer.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 1, Fault::Html);
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "network" && error.to_string().contains("this is not an answer of the Hub"), "{error}");
}

#[test]
fn servers_that_are_busy() {
    // Whichever request it is: for the commit, the list, a redirect or a file.
    for place in ["/revision/", "/tree/", "/resolve/", "/blob/"] {
        let (hub, cache) = (Hub::single(), Cache::new());
        hub.fail(place, 1, Fault::Status(429, "\r\nRetry-After: 17"));
        hub.fail(place, 1, Fault::Status(429, "\r\nRateLimit: \"api\";r=0;t=19"));
        hub.fail(place, 1, Fault::Status(503, "\r\nRetry-After: 86400"));
        hub.fail(place, 1, Fault::Status(500, ""));
        let (result, log) = cache.get(&hub);
        assert_whole(&result);
        let pauses: Vec<u64> = log.pauses.iter().map(|(time, _)| time.as_secs()).collect();
        assert_eq!((pauses.len(), &pauses[..3]), (4, &[17, 19, 300][..]), "{place}");
        assert!(pauses[3] <= 8 && log.pauses[0].1.contains("429"), "{:?}", log.pauses);
    }
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 99, Fault::Status(503, ""));
    let error = cache.get(&hub).0.unwrap_err();
    assert!(error.code() == "network" && error.to_string().contains("503"), "{error}");
    assert_eq!(hub.log().len(), 6);
    // When a signed address has expired, a new one is asked for. No message shows the secret in it.
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/blob/", 1, Fault::Status(403, ""));
    let (result, log) = cache.get(&hub);
    assert_whole(&result);
    assert!(log.pauses.len() == 1 && !log.pauses[0].1.contains("secret"), "{:?}", log.pauses);
}
