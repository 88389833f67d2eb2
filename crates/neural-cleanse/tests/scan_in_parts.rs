//! A scan that is spread over several machines comes to what one machine comes to.

use std::path::PathBuf;

use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::detection::Statistics;
use neural_cleanse::engine::{EngineChoice, select};
use neural_cleanse::scan::{Job, Plan, Survey, invert_jobs};
use neural_cleanse::{
    Classifier, ClassifierOptions, Config, Inversion, Model, Norm, Preprocessing, Rule, ScanOptions, scan,
};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn samples() -> Samples {
    data::load(&fixtures().join("fashion-mnist-400.npz"), None, &Wanted::new(1, 28, 28)).unwrap()
}

/// What a machine of its own makes of the model.
fn classifier() -> Classifier {
    let preprocessing = Preprocessing { scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] };
    let options = ClassifierOptions { preprocessing, ..ClassifierOptions::default() };
    let model = Model::read(fixtures().join("fmnist_badnets.onnx")).unwrap();
    Classifier::new(model, options, select(EngineChoice::Auto, None).unwrap().engine, 1).unwrap()
}

/// Under bounds between which the backdoor's class lies, so that it is looked at again.
fn options() -> ScanOptions {
    let rule = Some(Rule::Ratio { backdoored_below: 0.1, suspicious_below: 0.5 });
    ScanOptions { rule, exhaustive: true, ..ScanOptions::new(Config::fast(Norm::L2, 28, 28)) }
}

/// The inversions of `jobs` in blocks, each by a machine of its own that begins with the last of them.
fn in_blocks(jobs: &[Job], config: &Config) -> Vec<Inversion> {
    let block = |jobs: &[Job]| {
        let backwards: Vec<Job> = jobs.iter().rev().copied().collect();
        let mut inversions = invert_jobs(&classifier(), &samples(), config, &backwards, &()).unwrap();
        inversions.reverse();
        inversions
    };
    jobs.chunks(3).flat_map(block).collect()
}

#[test]
fn blocks_of_classes_on_several_machines_come_to_the_scan_of_one() {
    let (classifier, samples, options) = (classifier(), samples(), options());
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let jobs = plan.first_jobs();
    assert_eq!(
        jobs.iter().map(|job| (job.class, job.look)).collect::<Vec<_>>(),
        (0..10).map(|c| (c, 0)).collect::<Vec<_>>()
    );
    let survey = Survey::of_all(in_blocks(&jobs, &options.config));
    let further = survey.further_jobs(&options);
    let (looks, peers) = further.split_at(4);
    let looks: Vec<_> = looks.iter().map(|job| (job.class, job.look, job.window.is_some())).collect();
    assert_eq!(looks, [(7, 1, false), (7, 2, false), (7, 3, true), (7, 4, true)]);
    assert!(peers.iter().all(|job| job.look == 3 && job.window.is_some()), "{peers:?}");
    let inversions = in_blocks(&further, &options.config);
    let concluded = plan.conclude(survey, inversions.clone()).unwrap();
    let class = &concluded.classes[7];
    assert_eq!([&class.further_looks, &class.confined_looks].map(Vec::len), [2, 2]);

    // The three other classes whose sizes are nearest to the usual one say what is usual in a window.
    let distance = |class: &usize| concluded.classes[*class].ratio.map_or(f64::INFINITY, |ratio| ratio.ln().abs());
    let mut others: Vec<usize> = (0..10).filter(|&class| class != 7).collect();
    others.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    assert_eq!(peers.iter().map(|job| job.class).collect::<Vec<_>>(), others[..3]);
    let Statistics { usual_size, usual_confined_size, .. } = concluded.statistics;
    let (looks, peers) = inversions.split_at(4);
    let mut sizes: Vec<f64> = peers.iter().map(|peer| peer.size().unwrap_or(f64::INFINITY)).collect();
    sizes.sort_by(f64::total_cmp);
    assert_eq!(usual_confined_size, usual_size.map(|usual| sizes[1].min(usual)));
    let confined = looks[2..].iter().map(|look| look.size().zip(usual_confined_size).map(|(size, usual)| size / usual));
    assert_eq!(concluded.detection.looks[0].confined, confined.collect::<Vec<_>>());

    assert_eq!(concluded, scan(&classifier, &samples, &options, &()).unwrap());
}

#[test]
fn what_is_missing_or_of_another_class_is_an_error_and_no_verdict() {
    let (classifier, samples) = (classifier(), samples());
    let options =
        ScanOptions { classes: Some(vec![1, 4, 7]), ..ScanOptions::new(Config { steps: 1, ..options().config }) };
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let all = invert_jobs(&classifier, &samples, &options.config, &plan.first_jobs(), &()).unwrap();
    let problem = |first: &[Inversion], further: &[Inversion]| {
        plan.conclude(Survey::of_all(first.to_vec()), further.to_vec()).unwrap_err().to_string()
    };
    assert!(problem(&all[..2], &[]).contains("inversions"));
    assert!(problem(&[all[1].clone(), all[0].clone(), all[2].clone()], &[]).contains("inversions"));
    assert!(problem(&all, &all[..1]).contains("further looks"));
}
