//! The examples do what they say.

#[path = "../../examples/watch_and_ablate.rs"]
#[allow(dead_code)] // its `main`
mod example;

#[test]
fn a_model_is_trained_watched_and_ablated_without_a_window() {
    let lines = example::watch_and_ablate(200).expect("it runs");
    let number = |line: &str, after: &str| -> f64 {
        let text = line.split_once(after).unwrap_or_else(|| panic!("{after:?} is not in {line:?}")).1;
        text.split([' ', ',', ')']).next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    let [first, last, whole, ablated @ ..] = &lines[..] else { panic!("{lines:?}") };
    assert!(first.starts_with("step 100: ") && last.starts_with("step 200: "), "{lines:?}");
    assert!(number(last, "loss ") < number(first, "loss "), "{lines:?}");
    for head in ["0.0 ", "0.1 ", "1.0 ", "1.1 "] {
        assert!(last.contains(&format!(", {head}")), "{head} in {last}");
    }
    let loss = number(whole, "validation loss ");
    assert_eq!(ablated.len(), 4, "{lines:?}");
    for line in ablated {
        let (without, more) = (number(line, ": "), number(line, "("));
        assert!((without - loss - more).abs() < 0.002, "{line} beside {loss}");
    }
    assert!(ablated.iter().any(|line| number(line, "(").abs() > 0.001), "no head does anything: {lines:?}");
}
