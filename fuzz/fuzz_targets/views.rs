//! The tape and the built-in views on any text: the tape takes and refuses what `serde_json` does,
//! and no view fails or panics over what it takes.

#![no_main]

use std::ops::ControlFlow;
use std::sync::LazyLock;

use healthex_sync::plan::Timestamp;
use healthex_sync::views::{Dropped, Evaluation, NotATape, Several, Tape, TapeMemory, View, ViewDefinition, catalogue};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

/// Asks for everything everywhere.
const WIDE: &str = r#"{"resource": "Observation", "select": [
    {"column": [
        {"name": "all", "path": "descendants()", "collection": true},
        {"name": "beside", "path": "descendants().where(extension.exists()).id", "collection": true},
        {"name": "codes", "path": "code.coding.select(code | display).distinct()", "collection": true},
        {"name": "low", "path": "value.ofType(Quantity).value.lowBoundary()"},
        {"name": "time", "path": "effective.ofType(dateTime).highBoundary()"},
        {"name": "found", "path": "subject.resolve().id"}
    ]},
    {"repeat": ["component", "extension"], "column": [{"name": "row", "path": "%rowIndex"}]}
]}"#;

static VIEWS: LazyLock<Vec<View>> = LazyLock::new(|| {
    let definitions = catalogue().iter().map(|view| view.json).chain([WIDE]);
    let view = |json| ViewDefinition::parse(json).and_then(|definition| View::compile(&definition));
    definitions.map(|json| view(json).expect("it compiles")).collect()
});

fuzz_target!(|text: &str| {
    let mut memory = TapeMemory::default();
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    let tape = match Tape::read(text, &mut memory) {
        Ok(tape) => tape,
        Err(NotATape::TooDeep) => return,
        Err(refused) => {
            assert!(!is_json, "{refused}");
            return;
        }
    };
    assert!(is_json);
    let evaluation = Evaluation { now: Timestamp::UNIX_EPOCH, several: Several::KeepFirst };
    for view in &*VIEWS {
        let columns = view.columns.len();
        let evaluated = view.rows(&tape, evaluation, &mut Dropped::default(), &mut |cells| {
            assert_eq!(cells.len(), columns);
            ControlFlow::Continue(())
        });
        evaluated.expect("a small text is within all limits");
    }
});
