//! How well a model knows a lesson: the share of answers that are right, to problems that it was never trained on.

use std::ops::Range;

use burn::tensor::Device;

use crate::model::{Gpt, values_of};
use crate::protocol::largest_place;
use crate::recipe::{Recipe, TextSource};
use crate::text::{Dataset, TokenId, Tokenizer, problems};
use crate::train::ids_tensor;

/// Problems that are asked.
const PROBLEMS: usize = 200;
/// Tokens of the validation text that they are looked for in.
const SEARCHED: usize = 64 * PROBLEMS;
/// Problems of one pass.
const ROWS: usize = 50;

/// A problem as a model takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The line end before it, and the problem with its answers.
    pub ids: Vec<i32>,
    /// Places in `ids`; each range is one answer.
    pub answers: Vec<Range<usize>>,
}

/// Share of right answers, from 0 to 1. `None` where the text is no lesson or the context holds none of its problems, and
/// when it is called off: `goes_on` is asked before each pass. `model` is the validation form, on `device`.
pub fn accuracy(
    model: &Gpt,
    recipe: &Recipe,
    dataset: &Dataset,
    device: &Device,
    goes_on: &mut dyn FnMut() -> bool,
) -> Option<f32> {
    share_right(&questions(recipe, dataset), &mut |ids, rows| {
        let length = ids.len() / rows;
        goes_on().then(|| values_of(model.forward(ids_tensor(ids, rows, length, device))))
    })
}

/// The first problems of a lesson's validation part that fit the context. None where the text is no lesson, or a token is
/// not a character.
#[must_use]
pub fn questions(recipe: &Recipe, dataset: &Dataset) -> Vec<Question> {
    let (TextSource::Generated(lesson), Tokenizer::Characters(characters)) = (&recipe.data.text, &dataset.tokenizer)
    else {
        return Vec::new();
    };
    let ids: Vec<_> = dataset.validation.iter().take(SEARCHED).map(|&id| TokenId(id.into())).collect();
    let asked = problems(*lesson, &dataset.tokenizer.decode(&ids)).into_iter().filter_map(|problem| {
        let encoded = characters.encode(&format!("\n{}", problem.text)).ids;
        let fits = encoded.len() <= recipe.model.context + 1;
        let answers = problem.answers.into_iter().map(|answer| answer.start + 1..answer.end + 1).collect();
        fits.then(|| Question { ids: encoded.into_iter().map(|id| id.0 as i32).collect(), answers })
    });
    asked.take(PROBLEMS).collect()
}

/// Share of the answers that come out whole when the likeliest token is taken each time. `logits` gives those after each
/// of the tokens of some rows, `[row, position, vocabulary]`, or nothing to call it off.
///
/// Each place of an answer is predicted after the right places before it: the first wrong one decides either way.
pub fn share_right(questions: &[Question], logits: &mut dyn FnMut(Vec<i32>, usize) -> Option<Vec<f32>>) -> Option<f32> {
    let (mut right, mut asked) = (0, 0);
    for some in questions.chunks(ROWS) {
        let length = some.iter().map(|question| question.ids.len() - 1).max()?;
        // What fills up the shorter rows comes after their answers, where no attention looks.
        let padded = some.iter().flat_map(|question| {
            let inputs = &question.ids[..question.ids.len() - 1];
            inputs.iter().copied().chain(std::iter::repeat_n(question.ids[0], length - inputs.len()))
        });
        let found = logits(padded.collect(), some.len())?;
        let vocabulary = found.len() / (some.len() * length);
        for (question, rows) in some.iter().zip(found.chunks_exact(length * vocabulary)) {
            let predicted: Vec<_> = rows.chunks_exact(vocabulary).map(likeliest).collect();
            let whole = |answer: &&Range<usize>| {
                (answer.start..answer.end).all(|place| predicted[place - 1] == question.ids[place])
            };
            right += question.answers.iter().filter(whole).count();
            asked += question.answers.len();
        }
    }
    (asked > 0).then(|| right as f32 / asked as f32)
}

/// No token where a logit is no number: then none is likeliest.
fn likeliest(logits: &[f32]) -> i32 {
    largest_place(logits).filter(|&best| logits[best].is_finite()).map_or(-1, |best| best as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use crate::recipe::Lesson;

    fn asked(lesson: Lesson, context: usize) -> (Vec<Question>, usize) {
        let mut recipe = preset::first().recipe;
        recipe.data.text = TextSource::Generated(lesson);
        recipe.model.context = context;
        let dataset = Dataset::read(&recipe.data.text, None, &mut |_| true).expect("sound");
        (questions(&recipe, &dataset), dataset.tokenizer.vocabulary())
    }

    /// Logits of a model that knows everything but what `forgets` says of (row, place).
    fn knowing(
        questions: &[Question],
        vocabulary: usize,
        forgets: impl Fn(usize, usize) -> bool,
    ) -> impl FnMut(Vec<i32>, usize) -> Option<Vec<f32>> {
        let mut first = 0;
        move |ids, rows| {
            let length = ids.len() / rows;
            let mut logits = vec![0.0; ids.len() * vocabulary];
            for (row, question) in questions[first..first + rows].iter().enumerate() {
                assert_eq!(ids[row * length..][..question.ids.len() - 1], question.ids[..question.ids.len() - 1]);
                for (position, &next) in question.ids[1..].iter().enumerate() {
                    let next = if forgets(first + row, position + 1) { (next + 1) % vocabulary as i32 } else { next };
                    logits[(row * length + position) * vocabulary + next as usize] = 1.0;
                }
            }
            first += rows;
            Some(logits)
        }
    }

    #[test]
    fn all_none_or_some_answers_are_right() {
        for lesson in Lesson::ALL {
            let (questions, vocabulary) = asked(lesson, 64);
            assert_eq!(questions.len(), PROBLEMS, "{lesson}");
            let share = |forgets: &dyn Fn(usize, usize) -> bool| {
                share_right(&questions, &mut knowing(&questions, vocabulary, forgets))
            };
            assert_eq!(share(&|_, _| false), Some(1.0), "{lesson}");
            assert_eq!(share(&|_, _| true), Some(0.0), "{lesson}");
            // Only what is asked counts.
            let answered = |row: usize, place| questions[row].answers.iter().any(|answer| answer.contains(&place));
            assert_eq!(share(&|row, place| !answered(row, place)), Some(1.0), "{lesson}");
            // One wrong token makes the whole answer wrong.
            let answers: usize = questions.iter().map(|question| question.answers.len()).sum();
            let wanted = 1.0 - 1.0 / answers as f32;
            assert_eq!(share(&|row, place| row == 60 && place == questions[60].answers[0].end - 1), Some(wanted));
        }
    }

    #[test]
    fn what_cannot_be_asked_has_no_share() {
        let (short, vocabulary) = asked(Lesson::Induction, 30);
        assert!(!short.is_empty() && short.iter().all(|question| question.ids.len() <= 31));
        assert_eq!(share_right(&short, &mut |_, _| None), None, "called off");
        assert_eq!(asked(Lesson::Addition, 9).0, [], "the sum's last place lies past the context");
        assert_eq!(share_right(&[], &mut |ids, _| Some(vec![0.0; ids.len() * vocabulary])), None);
        let dialogues = preset::first().recipe;
        assert_eq!(questions(&dialogues, &Dataset::built_in(None).expect("sound")), []);
        let mut recipe = preset::find("addition").expect("built in").recipe;
        let dataset = Dataset::read(&recipe.data.text, None, &mut |_| true).expect("sound");
        assert_eq!(questions(&recipe, &dataset).len(), PROBLEMS);
        let pieces = Dataset { tokenizer: Tokenizer::Numbers(13), ..dataset };
        assert_eq!(questions(&recipe, &pieces), [], "a token is not a character");
        recipe.data.text = TextSource::File("sums.txt".into());
        assert_eq!(questions(&recipe, &pieces), []);
    }
}
