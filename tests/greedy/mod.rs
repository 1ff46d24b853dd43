//! Greedy decoding over a session, as `generate` does it.

use fanlight::generate::session::{Choose, Next, Prompt, Session};
use pollster::block_on;

/// The first `count` ids after a prompt, each the likeliest below `vocab`; an end does not end it.
pub fn greedy(session: &mut Session, prompt: &Prompt, vocab: usize, count: usize) -> Vec<u32> {
    let choose = || Choose::Best { vocab };
    let mut ids = Vec::new();
    let mut next = block_on(session.prefill(prompt, choose(), &|| true)).unwrap();
    loop {
        let Next::Best(best) = next else { panic!("greedy yields the best") };
        let id = best.id;
        ids.push(id);
        if ids.len() == count {
            return ids;
        }
        next = block_on(session.step(id, choose())).unwrap();
    }
}
