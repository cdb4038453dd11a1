//! What a device does, one job at a time, on whatever thread holds it: keeps slots, plans programs, runs them.
//!
//! Errors stay with their values. A program that cannot be run leaves failures in its output slots and everything else as
//! it was; the device goes on. Only words that do not even name outputs are nobody's but `sync`'s.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::block::give_back_freed;
use super::frame::Frame;
use super::memory::{Memory, Purpose, Storage, Value};
use super::operands::Lists;
use super::prepare::Planned;
use super::transfer::{fill, place};
use super::weights::Weights;
use crate::cpu::{Cpu, idle};
use crate::device::failure::{Failure, Unread};
use crate::device::profile::{Profiler, Subject};
use crate::device::programs::Programs;
use crate::device::slots::{Content, Slots};
use crate::device::{Source, Statistics, Target, Told};
use crate::error::{Error, Result};
use crate::plan::PlanCache;
use crate::program::Stream;

/// Plans kept: more than the signatures of a compiled function and an eager loop together.
const PLANS: usize = 256;
/// Code words of kept plans together, 16 MiB: a plan grows with its code, which hostile callers may make long.
const PLAN_WORDS: usize = 4 << 20;

/// A run estimated above this wakes the pool before its first kernel, so that its short kernels find it awake too.
const WORTH_WAKING_NS: u64 = 200_000;

/// The state of a device.
pub struct Engine {
    pub(super) cpu: Arc<Cpu>,
    pub(super) memory: Arc<Memory>,
    pub(super) weights: Weights,
    /// Set when nobody waits for results any more.
    pub(super) abandoned: Arc<AtomicBool>,
    slots: Slots<Storage>,
    plans: PlanCache<Planned>,
    programs: Programs<Planned>,
    plan: fn(&[u32], bool) -> Result<Planned>,
    fuse: bool,
    pub(super) unread: Unread,
    /// Notes what is done, if anybody wants to know.
    pub(super) profiler: Arc<Profiler>,
    frame: Frame,
    pub(super) lists: Lists,
}

/// The plan of a stream, or the reason why there is none. A stream that only frees slots needs none.
pub struct Lookup {
    planned: Result<Option<Arc<Planned>>>,
    /// The number of a compiled program.
    program: Option<u32>,
}

impl Lookup {
    /// Estimated time of the run; an error costs nothing.
    pub fn nanoseconds(&self) -> u64 {
        match &self.planned {
            Ok(Some(planned)) => planned.plan.nanoseconds,
            _ => 0,
        }
    }
}

impl Engine {
    /// An empty device.
    pub fn new(cpu: Arc<Cpu>, memory: Arc<Memory>, fuse: bool, abandoned: Arc<AtomicBool>) -> Self {
        Self {
            cpu,
            weights: Weights::new(Arc::clone(&memory)),
            memory,
            abandoned,
            slots: Slots::default(),
            plans: PlanCache::new(PLANS, PLAN_WORDS),
            programs: Programs::default(),
            plan: Planned::new,
            fuse,
            unread: Unread::default(),
            profiler: Arc::default(),
            frame: Frame::default(),
            lists: Lists::default(),
        }
    }

    /// Plans a stream without running it.
    pub fn look_up(&mut self, words: &[u32]) -> Lookup {
        let planned = Error::catch(|| Stream::parse(words).and_then(|stream| self.planned(&stream)));
        Lookup { planned, program: None }
    }

    /// Keeps a compiled program under a number.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is no room for another.
    pub fn keep(&mut self, program: u32, planned: Planned) -> Result<()> {
        self.programs.insert(program, planned)
    }

    /// Forgets a compiled program.
    pub fn release(&mut self, program: u32) {
        self.programs.remove(program);
    }

    /// The plan of a compiled program, or that there is none.
    pub fn compiled(&self, program: u32) -> Lookup {
        Lookup { planned: self.programs.get(program).map(Some), program: Some(program) }
    }

    /// Runs a stream. Whatever goes wrong ends in its output slots.
    pub fn submit(&mut self, words: &[u32], lookup: Option<Lookup>) {
        self.serve(words, None, |engine, stream| match lookup {
            Some(lookup) => lookup.planned,
            None => Error::catch(|| engine.planned(stream)),
        });
    }

    /// Runs a compiled program on what a stream binds. Whatever goes wrong ends in its output slots.
    pub fn run(&mut self, words: &[u32], Lookup { planned, program }: Lookup) {
        self.serve(words, program, |_, stream| stream.check_bare().and(planned));
    }

    fn serve(
        &mut self,
        words: &[u32],
        program: Option<u32>,
        plan: impl FnOnce(&mut Self, &Stream) -> Result<Option<Arc<Planned>>>,
    ) {
        let start = self.profiler.start();
        let stream = match Stream::parse(words) {
            Ok(stream) => stream,
            Err(error) => return self.report(error),
        };
        let planned = plan(self, &stream);
        let mut frame = std::mem::take(&mut self.frame);
        if let Err(error) = planned.and_then(|planned| match planned {
            // Steps have their own guard. A panic in what is around them is our bug, but no reason to keep silent.
            Some(planned) => Error::catch(|| self.execute(&planned, &stream, &mut frame)),
            None => Ok(()),
        }) {
            let failure = Failure::new(error, None);
            self.unread.push(&failure);
            for &slot in stream.outputs {
                // Without room for the slot there is nothing to put the failure in; reading it will say so.
                if self.slots.reserve(slot).is_ok() {
                    self.slots.set(slot, Content::Failed(Arc::clone(&failure)));
                }
            }
        }
        frame.clear();
        self.frame = frame;
        for &slot in stream.frees {
            if let Some(Content::Value(value)) = self.slots.free(slot) {
                self.frame.shells.release(value.storage);
            }
        }
        if let Some(start) = start {
            self.profiler.note(Subject::Run(program), start);
        }
    }

    fn planned(&mut self, stream: &Stream) -> Result<Option<Arc<Planned>>> {
        if stream.code.is_empty() && stream.inputs.is_empty() && stream.outputs.is_empty() {
            return Ok(None);
        }
        let (plan, fuse) = (self.plan, self.fuse);
        self.plans.get(stream.code, |code| plan(code, fuse)).map(Some)
    }

    /// Binds, runs, and stores the outputs.
    fn execute(&mut self, planned: &Planned, stream: &Stream, frame: &mut Frame) -> Result<()> {
        let plan = &planned.plan;
        plan.interface.check(stream)?;
        for &slot in stream.outputs {
            self.slots.reserve(slot)?;
        }
        frame.scalars.extend(stream.scalars());
        let (memory, weights, unread) = (&self.memory, &mut self.weights, &mut self.unread);
        frame.bind(
            planned,
            stream.inputs,
            &self.slots,
            |words, purpose| allocate(memory, weights, words, purpose),
            &mut |failure| unread.push(failure),
        )?;
        if plan.nanoseconds > WORTH_WAKING_NS {
            self.cpu.pool.wake();
        }
        self.steps(planned, frame);
        for (slot, failure) in frame.bound.broken(plan, stream.inputs) {
            self.slots.set(slot, Content::Failed(failure));
        }
        for (operand, &slot) in plan.outputs.iter().zip(stream.outputs) {
            let content = frame.output(operand)?;
            self.slots.set(slot, content);
        }
        Ok(())
    }

    /// Gives a slot host data, or the reason why there is none.
    pub fn write(&mut self, slot: u32, value: Result<Value>) {
        let content = match self.slots.reserve(slot).and(value) {
            Ok(value) => Content::Value(value),
            Err(error) => {
                let failure = Failure::new(error, None);
                self.unread.push(&failure);
                Content::Failed(failure)
            }
        };
        self.slots.set(slot, content);
    }

    /// Copies host data into device memory, evicting packed weights and the buffers of earlier runs if it must.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn place(&mut self, source: &Source) -> Result<Value> {
        loop {
            match place(source, &self.memory) {
                Err(Error::OutOfMemory(_)) if self.weights.evict() || self.frame.kept.give_back() => {}
                result => return result,
            }
        }
    }

    /// Copies a slot to the host.
    ///
    /// # Errors
    /// The slot's failure, which counts as told from here on.
    pub fn read(&self, slot: u32, target: &mut Target) -> Told<()> {
        match self.slots.get(slot)? {
            // SAFETY: what runs on this engine runs on the thread that holds it, which is this one.
            Content::Value(value) => Ok(unsafe { fill(target, value) }?),
            Content::Failed(failure) => {
                failure.mark_seen();
                Err(Arc::clone(failure))
            }
        }
    }

    /// Keeps an error that belongs to no slot until `sync` tells it.
    pub fn report(&mut self, error: Error) {
        self.unread.push(&error.into());
    }

    /// The first failure that nobody has been told about.
    pub fn take_unread(&mut self) -> Option<Arc<Failure>> {
        self.unread.take()
    }

    /// Frees everything; the first failure that nobody has been told about.
    pub fn close(&mut self) -> Option<Arc<Failure>> {
        self.slots = Slots::default();
        self.plans.clear();
        self.programs.clear();
        self.weights.clear();
        self.trim();
        self.unread.take()
    }

    /// Gives memory that waits for reuse back to the system.
    pub fn trim(&mut self) {
        self.frame.kept.give_back();
        self.frame.shells.clear();
        self.weights.sweep();
        self.memory.empty_pool();
    }

    /// Gives back everything that only makes later work faster, also what threads of the process keep.
    pub fn shrink(&mut self) {
        self.weights.clear();
        self.trim();
        idle::free();
        give_back_freed();
    }

    /// Ends an epoch of work: what it did not need is given back.
    pub fn end_epoch(&mut self) {
        self.weights.sweep();
        self.frame.kept.end_epoch();
        self.memory.end_epoch();
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        let plans = self.plans.counters();
        Statistics {
            memory: self.memory.usage(),
            live_slots: self.slots.live(),
            plans: plans.entries,
            plan_hits: plans.hits,
            plan_misses: plans.misses,
            ..Statistics::default()
        }
    }
}

/// Memory for a run; packed weights make room.
fn allocate(memory: &Arc<Memory>, weights: &mut Weights, words: usize, purpose: Purpose) -> Result<Storage> {
    loop {
        match memory.allocate(words, purpose) {
            Err(Error::OutOfMemory(_)) if weights.evict() => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Pool};
    use crate::device::testing::failures::{break_fused, half_from_a_product};
    use crate::device::testing::{program, stream};
    use crate::program::testing::F32;

    /// An engine with a value in slot 1, and a stream that negates it into slot 2.
    fn engine() -> (Engine, Vec<u32>) {
        let cpu = Arc::new(Cpu { isa: Isa::detect(), pool: Pool::new(1).unwrap() });
        let mut engine = Engine::new(cpu, Memory::new((), None), true, Arc::default());
        let value = engine.place(&Source::F32([1.0, 2.0].as_slice().into()));
        engine.write(1, value);
        let negative = program(&[(F32, &[2])], |w, x| vec![w.like("neg", x, &[])]);
        (engine, stream(&negative, &[1], &[2], &[], &[]))
    }

    /// Slot 2 holds the failure that `sync` tells, and the next run replaces it by a value.
    fn check(engine: &mut Engine, words: &[u32], message: &str) {
        let Ok(Content::Failed(failure)) = engine.slots.get(2) else { panic!("no failure") };
        assert_eq!(failure.error, Error::Internal(format!("a panic: {message}")));
        let failure = Arc::clone(failure);
        assert!(Arc::ptr_eq(&engine.take_unread().unwrap(), &failure));
        let plan = std::mem::replace(&mut engine.plan, Planned::new);
        engine.plans.clear();
        engine.submit(words, None);
        assert!(matches!(engine.slots.get(2), Ok(Content::Value(_))));
        engine.plans.clear();
        engine.plan = plan;
    }

    #[test]
    fn a_panic_in_planning_is_the_failure_of_the_outputs() {
        let (mut engine, words) = engine();
        engine.plan = |_, _| panic!("planned badly");
        engine.submit(&words, None);
        check(&mut engine, &words, "planned badly");
        let lookup = engine.look_up(&words);
        engine.submit(&words, Some(lookup));
        check(&mut engine, &words, "planned badly");
    }

    #[test]
    fn a_panic_in_binding_is_the_failure_of_the_outputs() {
        let (mut engine, words) = engine();
        engine.plan = |code, fuse| {
            let mut planned = Planned::new(code, fuse)?;
            // More than a table of values can hold.
            planned.plan.values = usize::MAX;
            Ok(planned)
        };
        engine.submit(&words, None);
        check(&mut engine, &words, "capacity overflow");
    }
    #[test]
    fn a_product_that_fails_takes_along_what_comes_from_it_and_nothing_else() {
        let (mut engine, _) = engine();
        engine.plan = |code, fuse| {
            let mut planned = Planned::new(code, fuse)?;
            break_fused(&mut planned.plan);
            Ok(planned)
        };
        for slot in [3, 4] {
            let value = engine.place(&Source::F32([2.0; 4].as_slice().into()));
            engine.write(slot, value);
        }
        engine.submit(&stream(&half_from_a_product(), &[3, 4], &[5, 6], &[], &[]), None);
        let Ok(Content::Failed(failure)) = engine.slots.get(5) else { panic!("no failure") };
        assert_eq!(failure.error.code(), "ERR_INTERNAL");
        assert!(Arc::ptr_eq(&engine.unread.take().unwrap(), failure));
        assert!(engine.unread.take().is_none());
        let mut data = [0.0_f32; 4];
        // SAFETY: the read ends before this returns.
        let mut target = unsafe { Target::new(data.as_mut_ptr().cast(), 4, F32) };
        engine.read(6, &mut target).unwrap();
        assert_eq!(data, [-2.0; 4]);
    }
}
