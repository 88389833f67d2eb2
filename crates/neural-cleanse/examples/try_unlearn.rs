//! Scratch.
use neural_cleanse::data::{self, Samples, Wanted};
use neural_cleanse::engine::{EngineChoice, select};
use neural_cleanse::inversion::{CleanSet, Objective, invert};
use neural_cleanse::mitigation::{Backdoor, Unlearning, unlearn};
use neural_cleanse::scan::{attack_success_rate, clean_set};
use neural_cleanse::*;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    // model scale mean std data target true.npz ntrain engine seeds configs...
    let (model, data, truth) = (&a[0], &a[4], &a[6]);
    let num = |i: usize| a[i].parse::<f64>().unwrap();
    let target = num(5) as usize;
    let ntrain = num(7) as usize;
    let choice: EngineChoice = a[8].parse().unwrap();
    let seeds: Vec<u64> = a[9].split(',').map(|s| s.parse().unwrap()).collect();
    let reversed_too = std::env::var("TRUE").is_err();
    let options = ClassifierOptions {
        preprocessing: Preprocessing { scale: num(1) as f32, mean: vec![num(2) as f32], std: vec![num(3) as f32] },
        ..Default::default()
    };
    let threads = 2;
    let classifier =
        Classifier::new(Model::read(model).unwrap(), options, select(choice, None).unwrap().engine, threads).unwrap();
    let [c, h, w] = classifier.image_shape();
    let samples = data::load(Path::new(data), None, &Wanted::new(c, h, w)).unwrap();
    let truth = Trigger::read_npz(Path::new(truth)).unwrap();
    for &seed in &seeds {
        let (rest, train): (Samples, Samples) = samples.split(ntrain, seed);
        let eval = if rest.len() > 4000 { rest.subset(4000, 1) } else { rest };
        let (train, eval) = (clean_set(&classifier, train).unwrap(), clean_set(&classifier, eval).unwrap());
        let trigger = if reversed_too {
            let cache =
                format!("/work/tmp-unlearn/rev-{}-{seed}.npz", Path::new(model).file_stem().unwrap().to_str().unwrap());
            if let Ok(t) = Trigger::read_npz(Path::new(&cache)) {
                t
            } else {
                let config = Config { seed, ..Config::fast(Norm::L2, h, w) };
                let mut objective = Objective::new(&classifier, config.batch_size, 1, threads).unwrap();
                let working = CleanSet { images: train.images.clone(), labels: train.labels.clone() };
                let inv = invert(&mut objective, &working, &config, (0.0, 255.0), target, 0, &mut |_| {
                    ControlFlow::Continue(())
                })
                .unwrap();
                println!("reversed: converged {} L1 {:.1}", inv.converged, inv.trigger.norm_l1());
                inv.trigger.write_npz(Path::new(&cache)).unwrap();
                inv.trigger
            }
        } else {
            truth.clone()
        };
        let measure = |c: &Classifier| {
            (
                100.0 * c.accuracy(eval.images.view(), &eval.labels).unwrap(),
                100.0 * attack_success_rate(c, &eval, &truth, target).unwrap(),
                100.0 * attack_success_rate(c, &eval, &trigger, target).unwrap(),
            )
        };
        let before = measure(&classifier);
        println!("seed {seed} before: acc {:.2} true ASR {:.2} reversed ASR {:.2}", before.0, before.1, before.2);
        for config in &a[10..] {
            // kind:lr:batch:epochs:layers
            let p: Vec<&str> = config.split(':').collect();
            let optimiser = match p[0] {
                "adam" => Optimiser::ADAM,
                "sgd" => Optimiser::Sgd { momentum: 0.9 },
                _ => Optimiser::Sgd { momentum: 0.0 },
            };
            let options = Unlearning {
                optimiser,
                learning_rate: p[1].parse().unwrap(),
                batch_size: p[2].parse().unwrap(),
                epochs: p[3].parse().unwrap(),
                layers: match p[4] {
                    "all" => Layers::All,
                    k => Layers::Last(k.parse().unwrap()),
                },
                seed,
                ..Default::default()
            };
            let backdoor = Backdoor { target_class: target, trigger: trigger.clone() };
            let start = Instant::now();
            let mut losses = vec![];
            match unlearn(&classifier, &[backdoor], &train, &options, &mut |s| {
                losses.push(s.cross_entropy);
                ControlFlow::Continue(())
            }) {
                Ok(model) => {
                    let seconds = start.elapsed().as_secs_f64();
                    let after = measure(&classifier.with_model(model).unwrap());
                    println!(
                        "  {config:24} acc {:6.2} ({:+.2}) true ASR {:6.2} reversed {:6.2}  {seconds:.2} s, loss {:.3} -> {:.3}",
                        after.0,
                        after.0 - before.0,
                        after.1,
                        after.2,
                        losses[0],
                        losses.last().unwrap()
                    );
                }
                Err(e) => println!("  {config}: {e}"),
            }
        }
    }
}
