//! The server that MCP clients speak with.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Extensions, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool as Shown,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;

use super::api::{Api, Fault};
use super::tools::{Context, Progress, Tool, Tools};

const ABOUT: &str = "Hearth keeps coding agents warm and runs tasks with them, each session in a git worktree of its own. \
    The round: task_create, then task_follow until `done`, changes_list and change_show to review, changes_apply or changes_reject. \
    A task that is `blocked` waits for prompt_answer; inbox_list shows all that needs a person.";

/// Leads to the API.
pub trait Door: Send + Sync + 'static {
    /// The API for whoever sent this request.
    ///
    /// # Errors
    /// The request came in a way that does not tell.
    fn api(&self, request: &Extensions) -> Result<Arc<dyn Api>, Fault>;
}

/// The MCP server, for any transport. Cheap to clone.
#[derive(Clone)]
pub struct Face {
    door: Arc<dyn Door>,
    tools: Arc<Tools>,
}

impl Face {
    /// A server that reaches the API through `door`.
    pub fn new(door: impl Door) -> Self {
        Self {
            door: Arc::new(door),
            tools: Arc::new(Tools::all()),
        }
    }

    async fn call(
        &self,
        tool: &Tool,
        arguments: Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value, Fault> {
        let api = self.door.api(&context.extensions)?;
        let caller = api.caller().await?;
        if caller.agent && !tool.for_agents {
            return Err(Fault::new(
                "agent_not_allowed",
                format!(
                    "{} is for people: an agent of this service may use {}",
                    tool.name,
                    self.tools.names_for_agents().join(", ")
                ),
            ));
        }
        let token = context.meta.get_progress_token();
        let progress = token.map(|token| Progress::new(context.peer.clone(), token));
        let context = Context {
            api,
            caller,
            progress,
        };
        tool.run(context, arguments).await
    }
}

impl ServerHandler for Face {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let mut own = Implementation::new("hearth", env!("CARGO_PKG_VERSION"));
        own.title = Some("Hearth".into());
        let mut info = ServerConfig::new(capabilities).with_instructions(ABOUT);
        info.server_info = own;
        info
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = async { self.door.api(&context.extensions)?.caller().await }.await;
        // A list has no way to say why it is none but an error of the protocol.
        let caller = caller.map_err(|fault| {
            let text = fault.to_string();
            ErrorData::internal_error(text, Some(fault.into_value()))
        })?;
        let shown = self.tools.shown_to(&caller);
        Ok(ListToolsResult::with_all_items(shown))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = self.tools.get(&request.name) else {
            let name: String = request.name.chars().take(64).collect();
            let text = format!("there is no tool `{}`", name.escape_debug());
            return Err(ErrorData::invalid_params(text, None));
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let cut = context.ct.clone();
        let called = tokio::select! {
            biased;
            // Who does not wait any more is told nothing; what was asked of the
            // service is done there or not, as with any client that left.
            () = cut.cancelled() => Err(Fault::new("cancelled", "the request was cancelled")),
            called = self.call(tool, arguments, &context) => called,
        };
        Ok(match called {
            Ok(value) => CallToolResult::structured(value),
            Err(fault) => CallToolResult::structured_error(fault.into_value()),
        }
        .into())
    }

    fn get_tool(&self, name: &str) -> Option<Shown> {
        self.tools.get(name).map(|tool| tool.shown.clone())
    }
}
