//! A scan that is spread over several machines comes to what one machine comes to.

use std::collections::BTreeMap;
use std::iter::zip;
use std::path::PathBuf;

use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::detection::Statistics;
use neural_cleanse::engine::{EngineChoice, select};
use neural_cleanse::scan::{Job, Plan, Survey, invert_jobs};
use neural_cleanse::{
    Classifier, ClassifierOptions, Config, Inversion, Model, Norm, Preprocessing, Rule, Scan, ScanOptions, Verdict,
    Window, scan,
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

/// Under bounds with which the backdoor's class, and no other, is looked at again.
fn options(bound: f64) -> ScanOptions {
    let rule = Some(Rule::Ratio { backdoored_below: bound, suspicious_below: 0.5 });
    ScanOptions { rule, exhaustive: true, ..ScanOptions::new(Config::fast(Norm::L2, 28, 28)) }
}

/// What comes of jobs, in blocks, each by a machine of its own that begins with the last of them. What is known is not done again.
#[derive(Default)]
struct Cluster(BTreeMap<(usize, u64), (Job, Inversion)>);

impl Cluster {
    fn invert(&mut self, jobs: &[Job]) -> Vec<(Job, Inversion)> {
        let is_done = |job: &Job| self.0.get(&(job.class, job.look)).is_some_and(|(done, _)| done == job);
        let left: Vec<Job> = jobs.iter().rev().filter(|job| !is_done(job)).copied().collect();
        for block in left.chunks(3) {
            let inversions = invert_jobs(&classifier(), &samples(), &options(0.3).config, block, &()).unwrap();
            self.0.extend(zip(block, inversions).map(|(job, inversion)| ((job.class, job.look), (*job, inversion))));
        }
        jobs.iter().map(|job| self.0[&(job.class, job.look)].clone()).collect()
    }

    /// What comes of all jobs of a scan, in the order in which it asks for them, and the verdict.
    fn scan(&mut self, options: &ScanOptions) -> (Vec<Vec<(Job, Inversion)>>, Scan) {
        let (classifier, samples) = (classifier(), samples());
        let plan = Plan::new(&classifier, &samples, options).unwrap();
        let (mut rounds, mut jobs, mut survey) = (Vec::new(), plan.first_jobs(), Survey::default());
        while !jobs.is_empty() {
            let done = self.invert(&jobs);
            survey.add(done.iter().rev().cloned());
            rounds.push(done);
            jobs = plan.next_jobs(&survey).unwrap();
        }
        (rounds, plan.conclude(survey).unwrap())
    }
}

fn looks(jobs: &[(Job, Inversion)]) -> Vec<(usize, u64, bool)> {
    jobs.iter().map(|(job, _)| (job.class, job.look, job.window.is_some())).collect()
}

fn sizes(looks: &[(Job, Inversion)]) -> Vec<f64> {
    looks.iter().map(|(_, inversion)| inversion.size().unwrap_or(f64::INFINITY)).collect()
}

fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9 * a.abs(), "{a} is not {b}");
}

#[test]
fn blocks_of_classes_on_several_machines_come_to_the_scan_of_one() {
    let mut cluster = Cluster::default();
    let (rounds, concluded) = cluster.scan(&options(0.3));
    let [first, whole, confined] = &rounds[..] else { panic!("not one round of further looks: {}", rounds.len() - 1) };
    assert_eq!(looks(first), (0..10).map(|class| (class, 0, false)).collect::<Vec<_>>());
    further_looks_are_at_what_is_suspicious_and_at_what_is_usual(whole, confined, &concluded);
    further_looks_that_are_missing_are_named(first, whole);
    further_looks_of_another_class_are_an_error(first, whole);
    further_looks_in_another_window_are_an_error([first, whole, confined]);

    let options = options(concluded.classes[7].score.unwrap());
    let foreignness = concluded.classes[7].foreignness;
    let (rounds, concluded) = cluster.scan(&options);
    closer_looks_are_as_many_again_and_decide(&rounds[1..], &concluded);
    assert_ne!(concluded.classes[7].foreignness, foreignness, "their triggers are seen by the layers, too");
    let (classifier, samples) = (classifier(), samples());
    assert_eq!(concluded, scan(&classifier, &samples, &options, &()).unwrap());
}

fn further_looks_are_at_what_is_suspicious_and_at_what_is_usual(
    whole: &[(Job, Inversion)],
    confined: &[(Job, Inversion)],
    concluded: &Scan,
) {
    let (of_class, peers) = confined.split_at(2);
    assert_eq!(looks(whole), [(7, 1, false), (7, 2, false)]);
    assert_eq!(looks(of_class), [(7, 3, true), (7, 4, true)]);
    assert!(peers.iter().all(|(job, _)| job.look == 3 && job.window.is_some()), "{:?}", looks(peers));
    let class = &concluded.classes[7];
    assert_eq!([&class.further_looks, &class.confined_looks].map(Vec::len), [2, 2]);

    // The three other classes whose sizes are nearest to the usual one say what is usual in a window.
    let distance = |class: &usize| concluded.classes[*class].ratio.map_or(f64::INFINITY, |ratio| ratio.ln().abs());
    let mut others: Vec<usize> = (0..10).filter(|&class| class != 7).collect();
    others.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    assert_eq!(peers.iter().map(|(job, _)| job.class).collect::<Vec<_>>(), others[..3]);
    let Statistics { usual_size: Some(usual), usual_confined_size: Some(usual_confined), .. } = concluded.statistics
    else {
        panic!("nothing is usual");
    };
    let mut of_peers = sizes(peers);
    of_peers.sort_by(f64::total_cmp);
    assert_close(usual_confined, of_peers[1].min(usual));
    for (ratio, size) in zip(&concluded.detection.looks[0].confined, sizes(of_class)) {
        assert_close(ratio.unwrap(), size / usual_confined);
    }
}

fn closer_looks_are_as_many_again_and_decide(further: &[Vec<(Job, Inversion)>], concluded: &Scan) {
    let [whole, confined, closer, closer_confined] = further else { panic!("not two rounds: {}", further.len()) };
    let whole = [whole, closer];
    let (of_class, of_peers): (Vec<_>, Vec<_>) =
        [confined, closer_confined].iter().map(|round| round.split_at(2)).unzip();
    for (look, (whole, confined)) in zip((1..).step_by(4), zip(whole, &of_class)) {
        assert_eq!(looks(whole), [(7, look, false), (7, look + 1, false)]);
        assert_eq!(looks(confined), [(7, look + 2, true), (7, look + 3, true)]);
    }
    let classes =
        |peers: &&[(Job, Inversion)]| peers.iter().map(|(job, _)| (job.class, job.window)).collect::<Vec<_>>();
    for (look, peers) in zip((3..).step_by(4), &of_peers) {
        assert_eq!(classes(peers), classes(&of_peers[0]), "what is usual is looked at again, too");
        assert!(peers.iter().all(|(job, _)| job.look == look && job.window.is_some()));
    }

    let Statistics { usual_size: Some(usual), usual_confined_size: Some(confined), .. } = concluded.statistics else {
        panic!("nothing is usual");
    };
    let mean = |peer: usize| {
        let product: f64 = of_peers.iter().map(|looks| sizes(looks)[peer].min(usual)).product();
        product.powf(1.0 / of_peers.len() as f64)
    };
    let mut means = [0, 1, 2].map(mean);
    means.sort_by(f64::total_cmp);
    assert_close(confined, means[1]);
    let look = &concluded.detection.looks[0];
    let all = |rounds: [&[(Job, Inversion)]; 2]| rounds.map(sizes).concat();
    for (ratios, sizes, usual) in [
        (&look.further, all(whole.map(Vec::as_slice)), usual),
        (&look.confined, all([of_class[0], of_class[1]]), confined),
    ] {
        assert_eq!((ratios.len(), sizes.len()), (4, 4));
        zip(ratios, sizes).for_each(|(ratio, size)| assert_close(ratio.unwrap(), size / usual));
    }
    assert_ne!(concluded.detection.verdict, Verdict::Inconclusive, "a score decides in the end: {}", look.words);
}

#[test]
fn what_is_missing_or_of_another_class_is_an_error_and_no_verdict() {
    let (classifier, samples) = (classifier(), samples());
    let options = ScanOptions {
        classes: Some(vec![1, 2, 4, 5, 7]),
        ..ScanOptions::new(Config { steps: 1, ..options(0.3).config })
    };
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let jobs = plan.first_jobs();
    let all = invert_jobs(&classifier, &samples, &options.config, &jobs, &()).unwrap();
    let problem = |done: &[(Job, Inversion)]| {
        let survey = || Survey::of(done.iter().cloned());
        let problem = plan.conclude(survey()).unwrap_err().to_string();
        assert_eq!(problem, plan.next_jobs(&survey()).unwrap_err().to_string());
        problem
    };
    let done: Vec<(Job, Inversion)> = zip(jobs, all).collect();
    assert!(problem(&done[..2]).contains("inversions"));
    assert!(problem(&[&done[..], &done[1..2]].concat()).contains("inversions"));
    let nobody_asked = (Job { look: 9, ..done[0].0 }, done[0].1.clone());
    assert!(problem(&[&done[..], &[nobody_asked]].concat()).contains("further looks"));
}

fn further_looks_that_are_missing_are_named(first: &[(Job, Inversion)], whole: &[(Job, Inversion)]) {
    let (classifier, samples, options) = (classifier(), samples(), options(0.3));
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let problem = |done: &[&[(Job, Inversion)]]| plan.conclude(Survey::of(done.concat())).unwrap_err().to_string();
    let (before, after) = (problem(&[first]), problem(&[first, whole]));
    assert!(before.contains("2 further looks are missing, the first at class 7"), "{before}");
    assert!(after.contains("5 further looks are missing, the first at class 7"), "those in windows: {after}");
}

fn further_looks_of_another_class_are_an_error(first: &[(Job, Inversion)], whole: &[(Job, Inversion)]) {
    let (classifier, samples, options) = (classifier(), samples(), options(0.3));
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let exchanged = zip(whole, first).map(|((job, _), (_, of_another))| (*job, of_another.clone()));
    let survey = Survey::of(first.iter().cloned().chain(exchanged));
    let problem = plan.conclude(survey).unwrap_err().to_string();
    assert!(problem.contains("not those that the suspicious classes call for"), "{problem}");
}

fn further_looks_in_another_window_are_an_error([first, whole, confined]: [&[(Job, Inversion)]; 3]) {
    let (classifier, samples, options) = (classifier(), samples(), options(0.3));
    let plan = Plan::new(&classifier, &samples, &options).unwrap();
    let elsewhere = Window { top: 0, left: 0, height: 1, width: 1 };
    let (mut job, inversion) = confined[0].clone();
    job.window = Some(elsewhere);
    let beside = [&[(job, inversion)], &confined[1..]].concat();
    let problem = |confined: &[(Job, Inversion)]| {
        plan.conclude(Survey::of([first, whole, confined].concat())).unwrap_err().to_string()
    };
    assert!(problem(&beside).contains("1 further looks are missing, the first at class 7"), "{}", problem(&beside));
    let too_many = [&beside[..1], confined].concat();
    assert!(problem(&too_many).contains("not those that the suspicious classes call for"), "{}", problem(&too_many));
}
