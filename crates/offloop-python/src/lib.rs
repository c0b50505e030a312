//! The translation between Python and the runtime: objects to bytes, outcomes to futures.
//!
//! The private module `_offloop_worker._offloop` has two halves. In the user's program: lanes to
//! submit to, and owners that resolve futures on their own thread. In a worker process: the loop
//! that decodes calls, runs them and encodes what became of them.
//!
//! Python code runs only while no lock of the runtime is held, and panics never cross the border:
//! PyO3 turns them into exceptions.

mod arrivals;
mod blocks;
mod buffer;
mod calls;
mod causes;
mod codec;
mod coroutines;
mod definitions;
mod error;
mod event_loop;
mod files;
mod forsaking;
mod functions;
mod holders;
mod home;
mod incoming;
mod lag;
mod lane;
mod lifted;
mod loads;
mod names;
mod outcomes;
mod overheard;
mod owner;
mod pending;
mod processes;
mod recording;
mod resolver;
mod resolving;
mod stacks;
mod start;
mod state;
mod stopping;
mod surroundings;
mod tape;
mod top;
mod view;
mod views;
mod watch;
mod watching;
mod worker;

use pyo3::prelude::*;

/// The private extension module of offloop.
#[pymodule]
fn _offloop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<buffer::SharedBuffer>()?;
    module.add_class::<lane::Lane>()?;
    module.add_class::<arrivals::Arrivals>()?;
    module.add_class::<owner::LoopOwner>()?;
    module.add_class::<definitions::Definition>()?;
    module.add("MISSING", definitions::missing(module.py())?)?;
    module.add_class::<processes::WorkerProcess>()?;
    module.add_class::<resolving::Bell>()?;
    module.add_class::<lag::LagRecorder>()?;
    module.add_class::<watch::heartbeat::Heartbeat>()?;
    module.add_class::<watch::selecting::WatchedSelect>()?;
    module.add_class::<watch::blocked::BlockedTime>()?;
    module.add_class::<overheard::Overheard>()?;
    module.add_class::<recording::Recording>()?;
    module.add_class::<tape::Tape>()?;
    event_loop::add_to(module)?;
    files::add_to(module)?;
    module.add_function(wrap_pyfunction!(stopping::stop, module)?)?;
    module.add_function(wrap_pyfunction!(resolving::bell, module)?)?;
    module.add_function(wrap_pyfunction!(home::worker_pids, module)?)?;
    module.add_function(wrap_pyfunction!(home::zygote_pids, module)?)?;
    module.add_function(wrap_pyfunction!(state::snapshot, module)?)?;
    module.add_function(wrap_pyfunction!(state::events_after, module)?)?;
    module.add_function(wrap_pyfunction!(recording::note_collection, module)?)?;
    module.add_function(wrap_pyfunction!(recording::note_thread_call, module)?)?;
    module.add_function(wrap_pyfunction!(recording::is_recording, module)?)?;
    module.add_function(wrap_pyfunction!(tape::report_html, module)?)?;
    module.add_function(wrap_pyfunction!(tape::metrics_text, module)?)?;
    module.add_function(wrap_pyfunction!(functions::function_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(functions::name_functions_by, module)?)?;
    module.add_function(wrap_pyfunction!(functions::forget_functions, module)?)?;
    module.add_function(wrap_pyfunction!(start::open_tracker_line, module)?)?;
    module.add_function(wrap_pyfunction!(holders::are_held, module)?)?;
    module.add_function(wrap_pyfunction!(stacks::stack_of, module)?)?;
    module.add_function(wrap_pyfunction!(stacks::sample_stacks, module)?)?;
    module.add_function(wrap_pyfunction!(stacks::code_positions, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_on, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_off, module)?)?;
    module.add_function(wrap_pyfunction!(watch::frames::current_frames, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_settle, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_long, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_clock, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_hearing, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_say, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_ranking, module)?)?;
    module.add_function(wrap_pyfunction!(watch::loops::watched_loops, module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch_after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(watch::loops::loop_number, module)?)?;
    module.add_function(wrap_pyfunction!(watch::loops::numbered_loops, module)?)?;
    top::add_to(module)?;
    views::add_to(module)?;
    module.add_function(wrap_pyfunction!(causes::cause_of, module)?)?;
    module.add_function(wrap_pyfunction!(causes::sample_causes, module)?)?;
    module.add_function(wrap_pyfunction!(error::samples::error_samples, module)?)?;
    module.add_function(wrap_pyfunction!(worker::serve, module)?)?;
    module.add_function(wrap_pyfunction!(worker::fork, module)?)?;
    module.add_function(wrap_pyfunction!(worker::work, module)?)?;
    module.add_function(wrap_pyfunction!(worker::lifeline, module)?)?;
    module.add_function(wrap_pyfunction!(worker::on_interrupt, module)?)?;
    module.add_function(wrap_pyfunction!(worker::set_importing, module)?)?;
    module.add_function(wrap_pyfunction!(worker::set_stopper, module)?)?;
    Ok(())
}
