//! A logical device without its queue and its thread: everything happens on the calling one, when it is asked for. For
//! measuring what recording a run costs; it has no reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adapter::Found;
use super::block::Memory;
use super::engine::Engine;
use super::physical::Gpu;
use super::planned::Planned;
use super::waiting::Begun;
use crate::device::{Source, Told};
use crate::error::Result;

/// How long one look at the GPU waits.
const SLICE: Duration = Duration::from_millis(100);

/// A device.
pub struct Unthreaded {
    gpu: Gpu,
    engine: Engine,
}

impl Unthreaded {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::NoDevice`](crate::error::Error::NoDevice) with the reason.
    pub fn open(found: &Found) -> Result<Self> {
        let gpu = Gpu::open(found)?;
        let engine = Engine::new(Memory::new(Arc::clone(&gpu.maker), None), true, Arc::default());
        Ok(Self { gpu, engine })
    }

    /// Gives a slot host data.
    pub fn write(&mut self, slot: u32, source: &Source) {
        self.engine.write(&mut self.gpu, slot, source);
    }

    /// Runs a stream.
    pub fn submit(&mut self, stream: &[u32]) {
        self.engine.submit(&mut self.gpu, stream);
    }

    /// Keeps a program under a number.
    ///
    /// # Errors
    /// Words that are no program.
    pub fn compile(&mut self, program: u32, code: &[u32]) -> Result<()> {
        self.engine.keep(program, Planned::new(code, true, self.gpu.traits())?);
        Ok(())
    }

    /// Records a run of a compiled program and submits it; how long that took, without the time that the driver kept
    /// this thread.
    ///
    /// # Errors
    /// [`Error::Lost`](crate::error::Error::Lost).
    pub fn run(&mut self, program: u32, stream: &[u32]) -> Result<Duration> {
        let (began, blocked) = (Instant::now(), self.gpu.recorder.blocked());
        self.engine.run(&mut self.gpu, program, stream);
        self.gpu.submit()?;
        Ok((began.elapsed() + blocked).saturating_sub(self.gpu.recorder.blocked()))
    }

    /// Dispatches recorded so far.
    pub fn recorded(&self) -> u64 {
        self.gpu.recorder.recorded()
    }

    /// Waits until the GPU has done everything.
    ///
    /// # Errors
    /// The first failure since this was last asked.
    pub fn wait(&mut self) -> Told<()> {
        let (send, receive) = std::sync::mpsc::channel();
        let done = Box::new(move |result| drop(send.send(result)));
        match self.engine.sync(&mut self.gpu, done) {
            Begun::Told(tell) => tell(),
            Begun::Waits(mut waiting) => {
                self.gpu.submit()?;
                Engine::request(&self.gpu, &mut waiting);
                while !Engine::is_ready(&self.gpu, &waiting)? {
                    self.gpu.recorder.wait(SLICE)?;
                    self.gpu.recorder.poll()?;
                }
                if let Some(tell) = self.engine.settle(&mut self.gpu, waiting, Ok(()), true) {
                    tell();
                }
            }
        }
        receive.try_recv().unwrap_or(Ok(()))
    }
}
