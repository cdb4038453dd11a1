//! Which chains become part of the instruction beside them, one rule per test.

use super::{Base, Chain, Fused, Limits, NO_VALUE, Options, Plan, StepKind};
use crate::program::Program;
use crate::program::testing::{A, BOOL, F32, Writer};

const NONE: Limits = Limits::NONE;
const FUSED: Options = Options { rows: false, ..Options::ALL };

fn plan_with(writer: &Writer, options: Options) -> Plan {
    Plan::new(&Program::decode(&writer.code).unwrap(), options).unwrap()
}

fn plan(writer: &Writer) -> Plan {
    plan_with(writer, FUSED)
}

fn fused(plan: &Plan) -> Vec<&Fused> {
    let steps = plan.steps.iter();
    steps.filter_map(|step| if let StepKind::Fused(fused) = &step.kind { Some(&**fused) } else { None }).collect()
}

fn names(chain: &Chain) -> Vec<String> {
    chain.ops.iter().map(|op| format!("{:?}", op.op)).collect()
}

const ALL: [A; 3] = [A::W(1), A::W(12), A::W(1)];

/// mean((x − y)²) of [3, 4]; gives x, y, the difference and its square.
fn squared_error(w: &mut Writer) -> [u32; 4] {
    let (x, y) = (w.input(F32, &[3, 4]), w.input(F32, &[4]));
    let difference = w.like("sub", &[x, y], &[]);
    let square = w.like("square", &[difference], &[]);
    [x, y, difference, square]
}

fn sum(w: &mut Writer, x: u32) {
    let sum = w.op("mean", &[(F32, &[])], &[x], &ALL);
    w.output(sum);
}

#[test]
fn a_reduction_takes_in_what_nothing_else_needs() {
    let mut w = Writer::default();
    let [.., square] = squared_error(&mut w);
    sum(&mut w, square);
    let plan = plan(&w);
    let [step] = fused(&plan)[..] else { panic!("{plan}") };
    let before = step.before.as_ref().unwrap();
    assert_eq!((plan.steps.len(), plan.arena), (1, 0));
    assert_eq!(names(before), ["Binary(Sub)", "Unary(Square)"]);
    let inner = step.kernel.inputs[0].unwrap();
    assert_eq!((inner.location.base, inner.value, inner), (Base::Nowhere, NO_VALUE, before.outputs[0].operand));
    assert_eq!(step.reads().count(), 2);
    assert!(plan.to_string().contains("into Reduce"), "{plan}");
    // Two words of traffic less per element, and a step.
    let apart = plan_with(&w, Options { before: None, ..FUSED });
    assert!(apart.steps.len() == 2 && plan.nanoseconds < apart.nanoseconds, "{plan}{apart}");
}

#[test]
fn what_others_read_is_written_and_read_from_there() {
    let mut w = Writer::default();
    let [_, _, difference, square] = squared_error(&mut w);
    sum(&mut w, square);
    w.output(difference);
    let plan = plan(&w);
    let [step] = fused(&plan)[..] else { panic!("{plan}") };
    assert_eq!(names(step.before.as_ref().unwrap()), ["Unary(Square)"]);
    assert!(matches!(&plan.steps[0].kind, StepKind::Chain(chain) if names(chain) == ["Binary(Sub)"]), "{plan}");
    w.output(square);
    assert!(fused(&self::plan(&w)).is_empty(), "the operand itself is shown");
}

#[test]
fn what_is_in_memory_for_nobody_else_is_not_split_off() {
    let mut w = Writer::default();
    let [_, _, difference, square] = squared_error(&mut w);
    let other = w.like("exp", &[difference], &[]);
    sum(&mut w, square);
    w.output(other);
    let plan = plan(&w);
    assert!(fused(&plan).is_empty() && plan.steps.len() == 2, "{plan}");
}

#[test]
fn another_shape_of_all_elements_is_taken_in_and_a_part_is_not() {
    for (offset, dims) in [(0, &[12][..]), (1, &[11])] {
        let mut w = Writer::default();
        let [.., square] = squared_error(&mut w);
        let view = w.op("view", &[(F32, dims)], &[square], &[A::W(offset)]);
        let sum = w.op("sum", &[(F32, &[])], &[view], &[A::W(1), A::W(dims[0]), A::W(1)]);
        w.output(sum);
        assert_eq!(fused(&plan(&w)).len(), usize::from(offset == 0));
    }
}

#[test]
fn no_read_moves_past_a_change_in_place() {
    for changes in [false, true] {
        let mut w = Writer::default();
        let other = w.input(F32, &[3, 4]);
        let [x, _, _, square] = squared_error(&mut w);
        if changes {
            w.op("addInto", &[], &[x, other], &[]);
        }
        sum(&mut w, square);
        assert_eq!(fused(&plan(&w)).len(), usize::from(!changes));
    }
}

#[test]
fn memory_that_a_reduction_reads_later_is_not_taken_over_before() {
    let mut w = Writer::default();
    let x = w.input(F32, &[3, 4]);
    let axes = [A::W(3), A::W(4), A::W(1)];
    let a = w.like("softmax", &[x], &axes);
    let inner = w.like("exp", &[a], &[]);
    let c = w.like("softmax", &[x], &axes);
    // The last instruction that reads a.
    let b = w.like("mul", &[a, c], &[]);
    let d = w.like("softmax", &[b], &axes);
    sum(&mut w, inner);
    w.output(d);
    let plan = plan(&w);
    let [step] = fused(&plan)[..] else { panic!("{plan}") };
    let read = step.before.as_ref().unwrap().inputs[0];
    let last = plan.steps.len() - 1;
    assert!(matches!(plan.steps[last].kind, StepKind::Fused(_)), "{plan}");
    for step in &plan.steps[1..last] {
        let written: Vec<_> = match &step.kind {
            StepKind::Chain(chain) => chain.outputs.iter().map(|output| output.operand.location).collect(),
            StepKind::Kernel(kernel) => kernel.outputs.iter().map(|output| output.location).collect(),
            StepKind::Fused(fused) => fused.results().map(|output| output.location).collect(),
        };
        assert!(!written.contains(&read.location), "{plan}");
    }
}

/// x·w of [3, 4] and what `body` makes of x and the product.
fn product(body: impl FnOnce(&mut Writer, u32, u32) -> u32) -> Writer {
    let mut w = Writer::default();
    let (x, weight) = (w.input(F32, &[3, 4]), w.input(F32, &[4, 4]));
    let product = w.op("matmul", &[(F32, &[3, 4])], &[x, weight], &[A::W(0), A::W(0)]);
    let result = body(&mut w, x, product);
    w.output(result);
    w
}

#[test]
fn a_chain_is_applied_to_a_product_as_it_is_stored() {
    let w = product(|w, x, product| {
        let row = w.input(F32, &[4]);
        let active = w.like("gelu", &[product], &[]);
        let scaled = w.like("mul", &[active, row], &[]);
        w.output(active);
        w.like("add", &[scaled, x], &[])
    });
    let plan = plan(&w);
    let [step] = fused(&plan)[..] else { panic!("{plan}") };
    let after = step.after.as_ref().unwrap();
    assert_eq!((plan.steps.len(), plan.arena, plan.allocations.len()), (1, 0, 2));
    let product = step.kernel.outputs[0];
    assert_eq!(step.successor().unwrap().location, product.location);
    assert_eq!(after.chain.inputs[usize::from(after.input)], product);
    let taken: Vec<_> = after.chain.outputs.iter().map(|output| output.in_place_of).collect();
    assert_eq!(taken, [None, Some(after.input)]);
    assert!(step.results().all(|result| result.value != product.value) && step.results().count() == 2);
    assert!(plan.to_string().contains("into chain over [3,4]"), "{plan}");
    assert_eq!(plan_with(&w, Options { after: None, ..FUSED }).steps.len(), 2);
    for few in [Limits { bindings: 5, binding: 12, ..NONE }, Limits { elements: 11, ..NONE }] {
        assert_eq!(plan_with(&w, Options { after: Some(few), ..FUSED }).steps.len(), 2);
    }
}

#[test]
fn a_product_that_others_see_is_left_as_it_is() {
    let shown = product(|w, _, product| {
        w.output(product);
        w.like("gelu", &[product], &[])
    });
    let read = product(|w, _, product| {
        let active = w.like("gelu", &[product], &[]);
        let again = w.like("softmax", &[product], &[A::W(3), A::W(4), A::W(1)]);
        w.output(again);
        active
    });
    let row = product(|w, _, product| {
        let row = w.op("view", &[(F32, &[4])], &[product], &[A::W(0)]);
        w.like("mul", &[product, row], &[])
    });
    let other_shape = product(|w, _, product| {
        let all = w.op("expand", &[(F32, &[2, 3, 4])], &[product], &[]);
        w.op("exp", &[(F32, &[2, 3, 4])], &[all], &[])
    });
    for writer in [shown, read, row, other_shape] {
        let plan = plan(&writer);
        assert!(fused(&plan).is_empty(), "{plan}");
    }
}

#[test]
fn what_a_chain_reads_beside_a_product_exists_before_it() {
    let late = product(|w, x, product| {
        let late = w.like("softmax", &[x], &[A::W(3), A::W(4), A::W(1)]);
        w.like("mul", &[product, late], &[])
    });
    assert!(fused(&plan(&late)).is_empty());
    let changed = product(|w, x, product| {
        let target = w.input(F32, &[3, 4]);
        w.op("addInto", &[], &[target, x], &[]);
        w.like("mul", &[product, target], &[])
    });
    assert!(fused(&plan(&changed)).is_empty());
    let between = product(|w, x, product| {
        let other = w.like("softmax", &[x], &[A::W(3), A::W(4), A::W(1)]);
        w.output(other);
        w.like("mul", &[product, x], &[])
    });
    let plan = plan(&between);
    assert!(plan.steps.len() == 2 && matches!(plan.steps[0].kind, StepKind::Fused(_)), "{plan}");
}

#[test]
fn of_two_products_the_later_takes_the_chain() {
    let w = product(|w, x, product| {
        let weight = w.input(F32, &[4, 4]);
        let other = w.op("linear", &[(F32, &[3, 4])], &[x, weight, crate::program::NONE], &[A::W(0), A::W(0)]);
        w.like("add", &[product, other], &[])
    });
    let plan = plan(&w);
    assert!(matches!(plan.steps[0].kind, StepKind::Kernel(_)), "{plan}");
    assert!(matches!(plan.steps[1].kind, StepKind::Fused(_)) && plan.steps.len() == 2, "{plan}");
}

/// where(mask, softmax(where(mask, x, y)), y) of [3, 4]; or a gradient of it.
fn masked_softmax(name: &str, inner: u32) -> Writer {
    let mut w = Writer::default();
    let (x, y, mask) = (w.input(F32, &[3, 4]), w.input(F32, &[3, 4]), w.input(BOOL, &[4]));
    let within = w.op("where", &[(F32, &[3, 4])], &[mask, x, y], &[]);
    let operands = if name.ends_with("Grad") { vec![within, y] } else { vec![within] };
    let soft = w.like(name, &operands, &[A::W(12 / 2 / inner), A::W(2), A::W(inner)]);
    let result = w.op("where", &[(F32, &[3, 4])], &[mask, soft, y], &[]);
    w.output(result);
    w
}

#[test]
fn softmax_of_rows_takes_chains_on_both_sides_where_the_device_says_so() {
    let rows = Options { rows: true, ..FUSED };
    for name in ["softmax", "softmaxGrad", "logSoftmax", "logSoftmaxGrad"] {
        let w = masked_softmax(name, 1);
        let plan = plan_with(&w, rows);
        let [step] = fused(&plan)[..] else { panic!("{plan}") };
        let (before, after) = (step.before.as_ref().unwrap(), step.after.as_ref().unwrap());
        assert_eq!((plan.steps.len(), plan.arena, plan.allocations.len()), (1, 0, 1), "{plan}");
        assert_eq!((names(before), names(&after.chain)), (vec!["Where".into()], vec!["Where".into()]));
        assert_eq!(step.kernel.inputs[0], Some(before.outputs[0].operand));
        assert_eq!(step.successor().unwrap().location, step.kernel.outputs[0].location);
        // Both have one instruction: that the one behind takes the place of the result says nothing about the other.
        assert_eq!((before.outputs[0].in_place_of, after.chain.outputs[0].in_place_of), (None, Some(after.input)));
        assert_eq!(plan_with(&w, FUSED).steps.len(), 3);
        assert_eq!(plan_with(&masked_softmax(name, 2), rows).steps.len(), 3);
    }
}
