//! What has been measured and can be taken away, as the contents of files.

use std::sync::Arc;

use crate::findings::{Finding, Format, csv, json};
use crate::lab::file_worker::Contents;
use crate::protocol::View;
use crate::store::RunStore;

/// What there is to take away.
#[must_use]
pub fn found(store: &RunStore) -> Vec<Finding> {
    let there = |finding: &Finding| match finding {
        Finding::Attention => store.look.is_some(),
        Finding::Roles => !store.roles.is_empty() || store.look.as_ref().is_some_and(|look| look.roles.is_some()),
        Finding::Lens => store.look.as_ref().is_some_and(|look| look.lens.is_some()),
        Finding::Attribution => store.look.as_ref().is_some_and(|look| look.attribution.is_some()),
        Finding::Effects => store.effects.is_some(),
    };
    Finding::ALL.into_iter().filter(there).collect()
}

/// A finding as a file, to be made on the desk's thread; `None` where there is none.
pub(in crate::ui) fn contents(store: &RunStore, finding: Finding, format: Format) -> Option<Contents> {
    let look = store.look.clone();
    let labels = store.ready.as_ref().map(|ready| Arc::clone(&ready.labels)).unwrap_or_default();
    let text: Box<dyn FnOnce() -> String + Send> = match finding {
        Finding::Attention => {
            let look = look?;
            Box::new(move || match format {
                Format::Json => json::attention(&look.attention, &look.view),
                Format::Csv => csv::with_changes(csv::attention(&look.attention), &look.view),
            })
        }
        Finding::Roles => {
            // With parts switched off a model is not one of the run's own.
            let other = look.filter(|look| !look.view.switches.is_empty() || store.roles.is_empty());
            let (view, reports) = match other.as_ref().and_then(|look| Some((look.view.clone(), look.roles.clone()?))) {
                Some((view, viewed)) => (view, vec![viewed]),
                None => (View::default(), store.roles.clone()),
            };
            Box::new(move || match (format, &reports[..]) {
                (Format::Csv, reports) => csv::with_changes(csv::roles(reports), &view),
                (Format::Json, [one]) => json::roles(one, &view),
                (Format::Json, many) => json::role_history(many),
            })
        }
        Finding::Lens => {
            let look = look?;
            let lens = look.lens.clone()?;
            Box::new(move || match format {
                Format::Json => json::lens(&lens, &look.attention, &labels, &look.view),
                Format::Csv => csv::with_changes(csv::lens(&lens, &look.attention, &labels), &look.view),
            })
        }
        Finding::Attribution => {
            let look = look?;
            let parts = look.attribution.clone()?;
            Box::new(move || match format {
                Format::Json => json::attribution(&parts, &look.attention, &labels, &look.view),
                Format::Csv => csv::with_changes(csv::attribution(&parts, &look.attention, &labels), &look.view),
            })
        }
        Finding::Effects => {
            let report = store.effects.clone()?;
            Box::new(move || match format {
                Format::Json => json::effects(&report),
                Format::Csv => csv::effects(&report),
            })
        }
    };
    Some(Box::new(|| Ok(text().into_bytes())))
}
