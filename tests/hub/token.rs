//! Who sees the token.

use fanlight::hub::Want;

use crate::cache::{Cache, assert_whole, list};
use crate::server::{Fault, Hub};

#[test]
fn the_token_stays_with_the_endpoint() {
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.state.lock().unwrap().token = Some("hf_right");
    let with = |token: Option<&str>| {
        let mut options = cache.options(&hub);
        options.token = token.map(str::to_owned);
        cache.get_as(&options, &Want::default()).0
    };
    for (token, word) in [(None, "no token was sent"), (Some("hf_wrong"), "a token was sent")] {
        let error = with(token).unwrap_err();
        let text = error.to_string();
        assert!(error.code() == "auth" && text.contains(word) && text.contains("GatedRepo"), "{text}");
        assert!(text.contains("restricted") && !text.contains("hf_wrong") && error.hint().contains("HF_TOKEN"));
        assert!(!error.retryable() && hub.log().len() == 1);
        hub.forget();
    }
    assert_whole(&with(Some("hf_right")));
    let (own, others): (Vec<_>, Vec<_>) = hub.log().into_iter().partition(|request| request.origin == "hub");
    assert!(!others.is_empty() && others.iter().all(|request| request.authorization.is_none()), "{others:?}");
    assert!(own.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_right")), "{own:?}");
    // No file on disk contains it.
    for folder in ["blobs", "refs"] {
        for file in list(&cache.repo().join(folder)) {
            assert!(!String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains("hf_right"));
        }
    }
    let (hub, cache) = (Hub::single(), Cache::new());
    hub.fail("/revision/", 1, Fault::Status(403, "\r\nX-Error-Message: no"));
    assert_eq!(cache.get(&hub).0.unwrap_err().code(), "auth");
}
