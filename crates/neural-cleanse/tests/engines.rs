//! Every engine must pass the same tests. One whose library is not installed is skipped, and says so.

mod installed;

use std::thread;

use installed::engines;
use ndarray::{Array4, ArrayD, array};
use neural_cleanse::engine::{
    Engine, EngineChoice, EngineError, OnnxRuntime, OpenVino, Precision, Provider, Rten, Session, select,
};

use onnx_grad::{ElementType, Graph, Tensor, ValueType, differentiate};

const ARITHMETIC: &[u8] = include_bytes!("models/arithmetic.onnx");
const NETWORK: &[u8] = include_bytes!("models/network.onnx");

fn a() -> ArrayD<f32> {
    array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].into_dyn()
}

fn b() -> ArrayD<f32> {
    array![[10.0, 20.0, 30.0]].into_dyn()
}

/// Values that are spread over 0..255 without a pattern, `[4, 3, 16, 16]`.
fn images() -> ArrayD<f32> {
    Array4::from_shape_fn((4, 3, 16, 16), |(n, c, y, x)| ((n * 7919 + c * 104_729 + y * 1299 + x * 31) % 256) as f32)
        .into_dyn()
}

fn compile(engine: &dyn Engine, model: &[u8], threads: usize) -> Box<dyn Session> {
    match engine.compile(model, threads) {
        Ok(session) => session,
        Err(error) => panic!("{}: {error}", engine.name()),
    }
}

fn logits(session: &mut dyn Session) -> Vec<u32> {
    let outputs = session.run(&[("images", images().view())], &["logits"]).expect("the logits");
    assert_eq!(outputs[0].shape(), [4, 10]);
    outputs[0].iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn outputs_come_in_the_order_asked_for_whatever_the_order_of_inputs() {
    let sum = array![[11.0, 22.0, 33.0], [14.0, 25.0, 36.0]].into_dyn();
    let difference = array![[-9.0, -18.0, -27.0], [-6.0, -15.0, -24.0]].into_dyn();
    for engine in engines() {
        let mut session = compile(engine.as_ref(), ARITHMETIC, 1);
        let (a, b) = (a(), b());
        let outputs = session.run(&[("a", a.view()), ("b", b.view())], &["sum", "difference"]).expect("a run");
        assert_eq!(outputs, [sum.clone(), difference.clone()], "{}", engine.name());
        let outputs = session.run(&[("b", b.view()), ("a", a.view())], &["difference", "sum"]).expect("a run");
        assert_eq!(outputs, [difference.clone(), sum.clone()], "{}", engine.name());
    }
}

#[test]
fn scalars_and_unchanged_inputs_can_be_outputs() {
    for engine in engines() {
        let mut session = compile(engine.as_ref(), ARITHMETIC, 1);
        let inputs = (a(), b());
        let outputs = session.run(&[("a", inputs.0.view()), ("b", inputs.1.view())], &["mean", "same"]).expect("a run");
        assert_eq!(outputs, [ndarray::arr0(3.5).into_dyn(), a()], "{}", engine.name());
    }
}

#[test]
fn inputs_need_not_be_contiguous() {
    for engine in engines() {
        let mut session = compile(engine.as_ref(), ARITHMETIC, 1);
        let columns = a().reversed_axes().as_standard_layout().into_owned();
        let row = b();
        let outputs =
            session.run(&[("a", columns.view().reversed_axes()), ("b", row.view())], &["same"]).expect("a run");
        assert_eq!(outputs, [a()], "{}", engine.name());
    }
}

#[test]
fn a_wrong_name_or_shape_is_an_error_that_names_it() {
    let (a, b, tall) = (a(), b(), ArrayD::<f32>::zeros(vec![3, 2]));
    let given = [("a", a.view()), ("b", b.view())];
    let cases = [
        (vec![("a", a.view()), ("c", b.view())], vec!["sum"], "no input `c`; its inputs are `a`, `b`"),
        (vec![("a", a.view())], vec!["sum"], "input `b` was not given"),
        (vec![("a", a.view()), ("a", a.view()), ("b", b.view())], vec!["sum"], "`a` is named twice"),
        (vec![("a", tall.view()), ("b", b.view())], vec!["sum"], "`a` has shape [3, 2] where the graph expects [2, 3]"),
        (
            given.to_vec(),
            vec!["sum", "product"],
            "no output `product`; its outputs are `sum`, `difference`, `same`, `mean`",
        ),
        (given.to_vec(), vec!["sum", "sum"], "`sum` is named twice"),
    ];
    for engine in engines() {
        let mut session = compile(engine.as_ref(), ARITHMETIC, 1);
        for (inputs, outputs, words) in &cases {
            let error = session.run(inputs, outputs).expect_err(words).to_string();
            assert!(error.contains(words), "{}: {error}", engine.name());
        }
        session.run(&given, &["sum"]).expect("the session still works");
    }
}

#[test]
fn bytes_that_are_no_model_are_an_error() {
    let cases: [&[u8]; 5] =
        [b"", b"garbage", &[0xff; 64], &NETWORK[..NETWORK.len() / 2], &NETWORK[..NETWORK.len() - 1]];
    for engine in engines() {
        for bytes in cases {
            match engine.compile(bytes, 1) {
                Err(EngineError::Compile { engine: name, .. }) => assert_eq!(name, engine.name()),
                Err(other) => panic!("{}: {other}", engine.name()),
                Ok(_) => panic!("{} compiled {} bytes that are no model", engine.name(), bytes.len()),
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads_or_repetition() {
    for engine in engines() {
        let mut one = compile(engine.as_ref(), NETWORK, 1);
        let mut two = compile(engine.as_ref(), NETWORK, 2);
        let expected = logits(one.as_mut());
        for _ in 0..20 {
            assert_eq!(logits(one.as_mut()), expected, "{}, 1 thread", engine.name());
            assert_eq!(logits(two.as_mut()), expected, "{}, 2 threads", engine.name());
        }
    }
}

#[test]
fn engines_agree_on_the_network() {
    let reference = logits(compile(&Rten, NETWORK, 1).as_mut());
    for engine in engines() {
        for (bits, expected) in logits(compile(engine.as_ref(), NETWORK, 1).as_mut()).iter().zip(&reference) {
            let (logit, expected) = (f32::from_bits(*bits), f32::from_bits(*expected));
            assert!((logit - expected).abs() < 1e-2, "{}: {logit} for {expected}", engine.name());
        }
    }
}

/// A square matrix is the same size transposed, so that an engine which keeps weights packed can take one for the other.
#[test]
fn gradients_through_square_weights_are_right() {
    const SIZE: usize = 64;
    let weights: Vec<f64> = (0..SIZE * SIZE).map(|i| ((i * 7919 + i * i * 31) % 97) as f64 / 97.0 - 0.5).collect();
    let sum = |rows: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..SIZE).map(rows).collect() };
    for op in ["Gemm", "MatMul"] {
        let mut graph = Graph::new();
        graph.add_input("x", ValueType::new(ElementType::F32, [2, SIZE])).expect("an input");
        graph.add_initializer("w", Tensor::floats(ElementType::F32, [SIZE, SIZE], &weights)).expect("weights");
        let y = graph.apply(op, &["x", "w"], ()).expect("a product");
        let square = graph.apply("Mul", &[&y, &y], ()).expect("a square");
        graph.set_outputs(&[&square]).expect("an output");
        let gradients = differentiate(&graph, &[&square], &["x"]).expect("gradients");
        let model = gradients.graph.to_model_bytes("square").expect("a model");

        // For x of ones, y is the column sums of w and the gradient 2 w y.
        let y = sum(&|column| (0..SIZE).map(|row| weights[row * SIZE + column]).sum());
        let expected = sum(&|row| (0..SIZE).map(|column| 2.0 * weights[row * SIZE + column] * y[column]).sum());
        for engine in engines() {
            let mut session = compile(engine.as_ref(), &model, 1);
            let ones = ArrayD::from_elem(vec![2, SIZE], 1.0f32);
            let found = session.run(&[("x", ones.view())], &[&gradients.names[0]]).expect("a run");
            for (found, expected) in found[0].iter().zip(expected.iter().cycle()) {
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-3,
                    "{}, {op}: {found}, not {expected}",
                    engine.name()
                );
            }
        }
    }
}

/// As many filters as channels: the same for convolutions, whose transpose takes the same weights.
#[test]
fn gradients_through_square_convolutions_are_right() {
    const CHANNELS: usize = 16;
    for (op, kernel, stride) in [("Conv", 1, 2), ("Conv", 3, 2), ("ConvTranspose", 1, 2), ("ConvTranspose", 3, 2)] {
        let mut graph = Graph::new();
        let shape = [8, CHANNELS, 14, 14];
        graph.add_input("x", ValueType::new(ElementType::F32, shape)).expect("an input");
        let weights =
            (0..CHANNELS * CHANNELS * kernel * kernel).map(|i| ((i * 7919 + i * i * 31) % 97) as f64 / 97.0 - 0.5);
        let weights =
            Tensor::floats(ElementType::F32, [CHANNELS, CHANNELS, kernel, kernel], &weights.collect::<Vec<_>>());
        graph.add_initializer("w", weights).expect("weights");
        let sides = |value: i64| vec![value; 2];
        let attributes = [("kernel_shape", sides(kernel as i64)), ("strides", sides(stride))];
        let y = graph.apply(op, &["x", "w"], attributes).expect("a convolution");
        let square = graph.apply("Mul", &[&y, &y], ()).expect("a square");
        graph.set_outputs(&[&square]).expect("an output");
        let gradients = differentiate(&graph, &[&square], &["x"]).expect("gradients");
        let model = gradients.graph.to_model_bytes("square").expect("a model");

        let x =
            ArrayD::from_shape_fn(&shape[..], |i| ((i[0] * 5 + i[1] * 3 + i[2] * 7 + i[3] * 11) % 13) as f32 / 13.0);
        let gradient = |engine: &dyn Engine| {
            let found = compile(engine, &model, 1).run(&[("x", x.view())], &[&gradients.names[0]]);
            found.expect("a run").remove(0)
        };
        let expected = gradient(&Rten);
        let length = expected.mapv(|v| v * v).sum().sqrt();
        for engine in engines() {
            let distance = (&gradient(engine.as_ref()) - &expected).mapv(|v| v * v).sum().sqrt();
            assert!(distance < 1e-5 * length, "{}, {op} {kernel}x{kernel}: {distance} of {length}", engine.name());
        }
    }
}

#[test]
fn sessions_run_side_by_side() {
    for engine in engines() {
        let expected = logits(compile(engine.as_ref(), NETWORK, 1).as_mut());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut session = compile(engine.as_ref(), NETWORK, 1);
                    for _ in 0..20 {
                        assert_eq!(logits(session.as_mut()), expected, "{}", engine.name());
                    }
                });
            }
        });
    }
}

#[test]
fn a_run_lets_no_other_rayon_job_start_on_its_thread() {
    use std::cell::Cell;
    thread_local!(static RUNNING: Cell<bool> = const { Cell::new(false) });

    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a thread pool");
    for engine in engines() {
        pool.scope(|scope| {
            for _ in 0..16 {
                let engine = &engine;
                scope.spawn(move |_| {
                    assert!(!RUNNING.replace(true), "{}: another job of this thread is running", engine.name());
                    let mut session = compile(engine.as_ref(), NETWORK, 1);
                    for _ in 0..5 {
                        logits(session.as_mut());
                    }
                    RUNNING.set(false);
                });
            }
        });
    }
}

#[test]
fn auto_takes_the_fastest_that_is_installed() {
    let selected = select(EngineChoice::Auto, None).expect("an engine");
    let reason = match (OpenVino::load(None), OnnxRuntime::load(None)) {
        (Ok(engine), _) => {
            let library = engine.library().display();
            format!("engine openvino {} ({library}): installed and the fastest", engine.version())
        }
        (Err(error), Ok(engine)) => {
            eprintln!("skipped: openvino: {error}");
            let library = engine.library().display();
            format!("engine onnxruntime {} ({library}): installed and faster than rten", engine.version())
        }
        (Err(error), Err(_)) => {
            eprintln!("skipped: openvino and onnxruntime: {error}");
            format!("engine rten {}: neither OpenVINO nor ONNX Runtime was found", Rten.version())
        }
    };
    assert_eq!(selected.reason, reason);
}

#[test]
fn only_openvino_computes_in_bf16_and_comes_close() {
    let reference = logits(compile(&Rten, NETWORK, 1).as_mut());
    for engine in engines() {
        match engine.with_precision(Precision::Bf16) {
            Ok(reduced) => {
                assert_eq!(reduced.name(), "openvino");
                let found = logits(compile(reduced.as_ref(), NETWORK, 1).as_mut());
                assert_ne!(found, logits(compile(engine.as_ref(), NETWORK, 1).as_mut()), "nothing was reduced");
                let largest = reference.iter().map(|&bits| f32::from_bits(bits).abs()).fold(0.0, f32::max);
                for (bits, expected) in found.iter().zip(&reference) {
                    let (logit, expected) = (f32::from_bits(*bits), f32::from_bits(*expected));
                    assert!((logit - expected).abs() < 0.03 * largest, "{logit} for {expected}");
                }
            }
            Err(error) if engine.name() == "openvino" => eprintln!("skipped: {error}"),
            Err(error) => {
                assert_eq!(error.to_string(), format!("{} cannot compute in bf16: only openvino can", engine.name()))
            }
        }
    }
}

#[test]
fn a_provider_that_is_not_there_is_an_error_and_not_the_processor() {
    for engine in engines() {
        let on_processor = engine.with_provider(Provider::Cpu).expect("every engine computes there");
        assert_eq!(logits(compile(on_processor.as_ref(), NETWORK, 1).as_mut()).len(), 40);
        for provider in Provider::ALL.into_iter().filter(|&provider| provider != Provider::Cpu) {
            match engine.with_provider(provider) {
                Ok(elsewhere) => {
                    assert_eq!(elsewhere.name(), "onnxruntime");
                    assert!(elsewhere.version().ends_with(provider.name()), "{}", elsewhere.version());
                    // Where there is such a provider this compiles.
                    if let Err(error) = elsewhere.compile(NETWORK, 1) {
                        let message = error.to_string().to_lowercase();
                        assert!(message.contains(&provider.name()[..4]), "{provider}: {message}");
                    }
                }
                Err(error) => {
                    let expected =
                        format!("{} computes on the processor only: take --engine onnxruntime", engine.name());
                    assert!(error.to_string().starts_with(&expected), "{error}");
                }
            }
        }
    }
}
