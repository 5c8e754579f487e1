//! How long a rollback of this cluster would take, by its own plan.

use rke2flow_engine::action::Failure;
use rke2flow_engine::duration::Span;
use rke2flow_engine::plan::{self, Forecast, Plan, Request};
use rke2flow_engine::runbook;
use rke2flow_engine::source::SourceText;

use crate::actions::World;
use crate::catalogue::{AnyAction, StepsCatalogue};
use crate::runbooks;

/// What is expected of a rollback.
pub struct Rollback {
    /// From its first outage to the end of its last one, as it usually is.
    pub outage: Span,
    /// What nine of ten would not exceed; `None`: nothing was measured on this cluster.
    pub late: Option<Span>,
    /// What its runbook allows.
    pub budget: Option<Span>,
    /// What the forecast goes by.
    pub by: String,
}

/// Plans a rollback of this cluster without the hosts that are lost, and adds up its longest way.
pub fn of_a_rollback(world: &World) -> Result<Rollback, Failure> {
    let plan = planned(world)
        .map_err(|why| Failure::permanent("a rollback of this cluster cannot be planned").observed(why))?;
    let forecast = Forecast::measured(&plan, &StepsCatalogue::offline(), &world.access().history);
    let forecast =
        forecast.map_err(|_| Failure::permanent("the steps of a rollback wait for one another in a circle"))?;
    let late = forecast.p90.as_ref().map(|late| late.outage);
    Ok(Rollback { outage: forecast.outage, late, budget: plan.budget, by: forecast.basis.words() })
}

fn planned(world: &World) -> Result<Plan, String> {
    let catalogue = StepsCatalogue::offline();
    let embedded = runbooks::find("rollback").ok_or("there is no runbook `rollback`")?;
    let source = SourceText::new(embedded.name, embedded.text.to_owned());
    let runbook = runbook::parse::<AnyAction>(source, &catalogue).map_err(|found| found.to_string())?;
    let lost = world.access().lost.iter().map(ToString::to_string).collect();
    let request = Request { lost, ..Request::default() };
    let planned = plan::build(&runbook, world.cluster(), &request, &catalogue).map_err(|found| found.to_string())?;
    Ok(planned.plan)
}
