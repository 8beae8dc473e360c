use std::collections::HashMap;

use super::*;

#[test]
fn no_two_commands_share_a_key() {
    let mut known: HashMap<KeyboardShortcut, MenuCommand> = HashMap::new();
    for command in MenuCommand::ALL {
        for key in command.keys() {
            if let Some(other) = known.insert(*key, command) {
                panic!("{command:?} and {other:?} share {key:?}");
            }
        }
    }
    assert!(known.len() > 10, "the table holds the keys");
}

#[test]
fn every_command_is_in_the_table_once_and_has_its_words() {
    let texts: std::collections::HashSet<&str> = MenuCommand::ALL.iter().map(|command| command.text()).collect();
    assert_eq!(texts.len(), MenuCommand::ALL.len());
    assert!(MenuCommand::ALL.iter().all(|command| command.tip().ends_with('.')));
}

#[test]
fn commands_follow_the_run() {
    let sampling = crate::preset::first().recipe.sampling;
    let idle = Situation {
        phase: Phase::Idle,
        hindrance: None,
        waiting: false,
        blocked: None,
        has_curve: false,
        found: Vec::new(),
        is_parity_run: false,
        sampling,
        has_kept: false,
        can_undo: false,
    };
    let at = |phase| Situation { phase, ..idle.clone() };
    assert!(matches!(MenuCommand::TrainOrPause.action(&at(Phase::Training)), Ok(Action::Pause)));
    assert!(matches!(MenuCommand::TrainOrPause.action(&at(Phase::Paused)), Ok(Action::Train)));
    assert!(MenuCommand::TrainOrPause.action(&at(Phase::Completed)).is_err());
    assert!(MenuCommand::SaveCheckpoint.action(&at(Phase::Idle)).is_err());
    assert!(matches!(MenuCommand::ParityRun.action(&idle), Ok(Action::ParityRun)));
    assert!(MenuCommand::ParityRun.action(&at(Phase::Training)).is_err(), "another run is there");
    let compared = Situation { is_parity_run: true, ..at(Phase::Training) };
    assert!(MenuCommand::ParityRun.action(&compared).is_ok());
    let faulty = Situation { hindrance: Some("width 130".into()), ..idle.clone() };
    assert_eq!(MenuCommand::Step.action(&faulty).err().as_deref(), Some("width 130"));
    let blocked = Situation { blocked: Some("its text is gone".into()), ..at(Phase::Paused) };
    assert_eq!(MenuCommand::TrainOrPause.action(&blocked).err().as_deref(), Some("its text is gone"));
    assert!(MenuCommand::Live.action(&at(Phase::Training)).is_err(), "nothing is kept");
    let kept = Situation { has_kept: true, can_undo: true, ..at(Phase::Paused) };
    assert!(matches!(MenuCommand::EarlierStep.action(&kept), Ok(Action::Timeline(Move::Earlier))));
    assert!(matches!(MenuCommand::UndoSwitch.action(&kept), Ok(Action::UndoSwitches)));
    assert!(MenuCommand::Sample.action(&blocked).is_ok(), "looking and sampling still work");
    let save = |finding| MenuCommand::SaveFinding(finding).action(&at(Phase::Paused));
    assert!(save(Finding::Lens).is_err_and(|why| why.contains("show the Logit lens pane")));
    assert!(MenuCommand::SavePage.action(&idle).is_err_and(|why| why.contains("No attention")));
    let measured = Situation { found: vec![Finding::Attention, Finding::Effects], ..idle };
    for finding in [Finding::Attention, Finding::Effects] {
        let action = MenuCommand::SaveFinding(finding).action(&measured);
        assert!(matches!(action, Ok(Action::Pick(PickPurpose::SaveFinding(asked))) if asked == finding));
    }
    assert!(matches!(MenuCommand::SavePage.action(&measured), Ok(Action::Pick(PickPurpose::SavePage))));
}
