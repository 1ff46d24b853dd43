//! The engine that sessions use: another one once the device was lost and the checkpoint was loaded onto a new device.

use std::cell::RefCell;
use std::rc::Rc;

use crate::chat;

/// The engine on the present device. Sessions look it up for every call.
pub(super) struct Current(RefCell<Rc<chat::Engine>>);

impl Current {
    /// This engine, until another one replaces it.
    pub(super) fn new(engine: chat::Engine) -> Self {
        Current(RefCell::new(Rc::new(engine)))
    }

    /// The present engine.
    pub(super) fn get(&self) -> Rc<chat::Engine> {
        self.0.borrow().clone()
    }

    /// From now on this engine.
    pub(super) fn replace(&self, engine: chat::Engine) {
        *self.0.borrow_mut() = Rc::new(engine);
    }
}
