//! What a device notes about itself while it is profiled.

use super::{Bench, bare, program, stream};
use crate::device::profile::{Event, Label, Subject};
use crate::program::testing::{A, F32, Writer};

const PROGRAM: u32 = 3;

/// Two products in a row, and a chain.
fn products() -> Writer {
    let shape = (F32, &[4, 4][..]);
    program(&[shape], |w, x| {
        let first = w.op("matmul", &[shape], &[x[0], x[0]], &[A::W(0), A::W(0)]);
        let negative = w.like("neg", &[first], &[]);
        vec![w.op("matmul", &[shape], &[x[0], negative], &[A::W(0), A::W(0)])]
    })
}

fn label(event: &Event) -> Option<Label> {
    match &event.subject {
        Subject::Step(labels, position) | Subject::Recording(labels, position) => labels.get(*position).cloned(),
        Subject::Run(_) | Subject::Submission(_) => None,
    }
}

pub(crate) fn a_profile_has_every_run_with_its_steps(bench: &Bench) {
    let words = stream(&products(), &[1], &[2], &[2], &[]);
    bench.write(1, &[1.0; 16]);
    bench.compile(PROGRAM, &products().code).unwrap();
    bench.submit(&words);
    bench.sync().unwrap();
    assert!(bench.device.profiler().take().events.is_empty(), "nobody has asked yet");

    bench.device.profiler().set(1000);
    bench.submit(&words);
    bench.run(PROGRAM, &bare(&words));
    bench.sync().unwrap();
    let events = bench.device.profiler().take().events;
    let mut numbers = Vec::new();
    for (i, run) in events.iter().enumerate() {
        let Subject::Run(number) = run.subject else { continue };
        numbers.push(number);
        let within = |event: &&Event| run.start <= event.start && event.end <= run.end;
        let steps: Vec<Label> = events[..i].iter().filter(within).filter_map(label).collect();
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["matmul+neg", "matmul"]);
        assert_eq!((steps[0].flops, steps[0].bytes), (2 * 4 * 4 * 4, 3 * 64));
    }
    assert_eq!(numbers, [None, Some(PROGRAM)]);
    let dispatches = events.iter().filter_map(|event| match event.subject {
        Subject::Submission(dispatches) => Some(dispatches),
        _ => None,
    });
    let on_gpu = events.iter().any(|event| matches!(event.subject, Subject::Recording(..)));
    assert!(if on_gpu { dispatches.sum::<u32>() >= 4 } else { dispatches.count() == 0 });

    bench.device.profiler().set(0);
    bench.submit(&words);
    bench.sync().unwrap();
    assert!(bench.device.profiler().take().events.is_empty());
}

pub(crate) fn a_plan_can_be_printed(bench: &Bench) {
    let text = bench.device.print_plan(&products().code).unwrap();
    assert!(text.starts_with("arena ") && text.contains("\n0: Matmul"), "{text}");
    assert_eq!(bench.device.print_plan(&[1, 2, 3]).unwrap_err().code(), "ERR_PROGRAM");
}
