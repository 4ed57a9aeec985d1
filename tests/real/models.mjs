// Stands in, on loopback, for the services that agent CLIs ask for answers, and keeps what they were told: the user texts of
// the conversation are the truth about what became of a message. Speaks as little of each service as the CLIs need.
import http from 'node:http';

/** A user text that contains this is answered with a request to run COMMAND in a shell. */
export const command = (line) => `<<run ${line}>>`;
const COMMAND = /<<run ([^>]+)>>/;
/** A user text that contains this is answered with a call of one of the broker's tools. */
export const wish = (name, input) => `<<tool ${name} ${JSON.stringify(input)}>>`;
const WISH = /<<tool (\w+) (\{.*?\})>>/s;
const SHELLS = ['Bash', 'exec_command', 'shell_command', 'shell', 'bash', 'run_shell_command'];
/** How CLIs begin what they add to a conversation by themselves. */
const OWN = new RegExp([
  String.raw`^\s*<(system-reminder|environment_context|user_instructions|permissions|session_context|collaboration_mode|skills_instructions`,
  String.raw`|INSTRUCTIONS|turn_aborted|apps_instructions|plugins_instructions|recommended_plugins|model_switch|local-command|command-name)`,
  String.raw`|^\n--- (Content from|End of content)|^\nContent from @|^# a project$|^# AGENTS\.md|^\[Request interrupted by user|^This is the Gemini CLI|^\[SUGGESTION MODE|^Managed memory has|^I am not sharing|^I have \*added`,
].join(''));
/** What aider puts behind what it is told. */
const REMINDER = /\n+Reply in [^\n]+\.\s*$/;
/** How Claude Code passes on a long paste. */
const PASTED = /^\s*<pasted_content id="(\w+)">\n([\s\S]*)\n<\/pasted_content id="\1">\s*$/;
/** How Claude Code passes on what it is told while a tool runs. */
const MEANWHILE = /The user sent a new message while you were working:\n([\s\S]*?)\n\nIMPORTANT:/g;
const meanwhile = (text) => [...text.matchAll(MEANWHILE)].map(([, said]) => said);

const some = (list) => (list && list.length ? list : undefined);

const texts = (content) => {
  if (typeof content === 'string') return [content];
  return (content ?? []).flatMap((part) => part?.text ?? []);
};

const written = (result) => (typeof result === 'string' ? result : JSON.stringify(result));

/** `{ role: 'user' | 'model' | 'other', texts, tool }` for each entry of a conversation, whatever its dialect; `tool` are results. */
const conversation = {
  anthropic: ({ messages = [] }) => messages.map(({ role, content }) => ({
    role: { user: 'user', assistant: 'model' }[role] ?? 'other',
    texts: texts(content),
    tool: some(Array.isArray(content) && content.filter(({ type }) => type === 'tool_result').map((result) => texts(result.content).join('\n'))),
  })),
  responses: ({ input = [] }) => (typeof input === 'string' ? [{ role: 'user', content: input }] : input).map((item) => {
    if (item.type && item.type !== 'message') return { role: 'model', texts: [], tool: some(item.type.endsWith('output') && [written(item.output)]) };
    return { role: item.role === 'user' ? 'user' : item.role === 'assistant' ? 'model' : 'other', texts: texts(item.content) };
  }),
  chat: ({ messages = [] }) => messages.map(({ role, content }) => ({
    role: { user: 'user', assistant: 'model' }[role] ?? 'other', texts: texts(content), tool: some(role === 'tool' && [texts(content).join('\n')]),
  })),
  gemini: ({ contents = [] }) => contents.map(({ role, parts }) => ({
    role: role === 'model' ? 'model' : 'user', texts: texts(parts), tool: some((parts ?? []).flatMap(({ functionResponse: result }) => (result ? [written(result.response)] : []))),
  })),
};

/** The tools that are offered, as `{ name, namespace }`. */
const offered = {
  anthropic: ({ tools = [] }) => tools,
  responses: ({ tools = [] }) => tools.flatMap((tool) => tool.tools?.map(({ name }) => ({ name, namespace: tool.name })) ?? [tool]),
  chat: ({ tools = [] }) => tools.map((tool) => ({ name: tool.function?.name })),
  gemini: ({ tools = [] }) => tools.flatMap(({ functionDeclarations = [] }) => functionDeclarations),
};

/** The broker's tool of that name, as the CLI calls it. Claude Code takes it also where it has not listed it. */
function ours(dialect, tools, name) {
  const own = ({ name: theirs, namespace = '' }) => /agent[-_]relay/.test(namespace + theirs) && theirs.endsWith(name);
  return tools.find(own) ?? (dialect === 'anthropic' ? { name: `mcp__agent-relay__${name}` } : undefined);
}

/** Until what the listeners are told is wanted, or for so long; whether it is. */
export async function comes(listeners, wanted, ms) {
  let listener;
  let timer;
  const came = new Promise((ok) => {
    listener = (news) => wanted(news) && ok(true);
    listeners.add(listener);
    timer = setTimeout(() => ok(false), ms);
  });
  try {
    return await came;
  } finally {
    clearTimeout(timer);
    listeners.delete(listener);
  }
}

export class Models {
  /** Before an answer begins, and while it is told, in ms; and in how many pieces it is told. */
  pace = { think: 0, tell: 0, pieces: 1 };
  /** User texts of the conversation, oldest first, from the longest that was sent. */
  turns = [];
  /** The models that were asked for in it. */
  names = new Set();
  /** What came of the tools that were called, from the same. */
  results = [];
  /** The broker's tools that were wished and not offered. */
  missed = [];
  /** All user texts that were ever told: some CLIs forget a turn that was interrupted. */
  heard = new Set();
  /** When each of them was told first. */
  when = new Map();
  /** How many answers are being told. */
  busy = 0;
  #longest = 0;
  #listeners = new Set();
  #answers = 0;

  /** Of a program that offers no tools, every question counts. */
  static async start({ toolless = false } = {}) {
    const models = new Models();
    models.toolless = toolless;
    models.server = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => models.#serve(request, response, Buffer.concat(chunks).toString()).catch((error) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(String(error));
      }));
    });
    await new Promise((ok) => { models.server.listen(0, '127.0.0.1', ok); });
    models.url = `http://127.0.0.1:${models.server.address().port}`;
    return models;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  /** Another conversation begins. */
  forget() {
    this.turns = [];
    this.results = [];
    this.heard.clear();
    this.when.clear();
    this.#longest = 0;
  }

  /** Until the conversation satisfies `wanted`, or for so long; whether it does. */
  async until(wanted, ms) {
    return wanted(this.turns) || comes(this.#listeners, () => wanted(this.turns), ms);
  }

  #hear(dialect, body) {
    const entries = conversation[dialect](body);
    const tools = offered[dialect](body).filter(({ name }) => name);
    const names = tools.map(({ name }) => name);
    // Titles, summaries and guesses are asked for without tools.
    const main = this.toolless || names.length > 3 || (dialect === 'responses' && names.length > 0);
    if (!main) return { main };
    if (entries.length >= this.#longest) {
      this.#longest = entries.length;
      this.results = entries.flatMap(({ tool }) => tool ?? []);
      this.turns = entries.flatMap(({ role, texts: said }) => said.flatMap((text) => {
        const among = meanwhile(text);
        if (among.length || role !== 'user') return among;
        return this.toolless ? text.replace(REMINDER, '') : text.replace(PASTED, '$2');
      })).filter((text) => !OWN.test(text));
      for (const turn of this.turns) {
        this.heard.add(turn);
        if (!this.when.has(turn)) this.when.set(turn, performance.now());
      }
      for (const listener of this.#listeners) listener();
    }
    const last = entries.findLastIndex(({ role, tool }) => role === 'model' && !tool);
    const news = entries.slice(last + 1);
    const said = news.some(({ tool }) => tool) ? '' : news.filter(({ role }) => role === 'user').flatMap((e) => e.texts).join('\n');
    return { main, call: this.#shell(names, said) ?? this.#wished(dialect, tools, said) };
  }

  #shell(names, said) {
    const [, line] = COMMAND.exec(said) ?? [];
    const name = SHELLS.find((one) => names.includes(one));
    return line && name ? { name, input: arguments_(name, line) } : undefined;
  }

  #wished(dialect, tools, said) {
    const [, name, input] = WISH.exec(said) ?? [];
    const tool = name && ours(dialect, tools, name);
    if (name && !tool) this.missed.push(`${name} among ${tools.map((one) => one.name)}`);
    return tool ? { name: tool.name, namespace: tool.namespace, input: JSON.parse(input) } : undefined;
  }

  async #serve(request, response, text) {
    const { pathname } = new URL(request.url, this.url);
    const dialect = /\/messages$/.test(pathname) ? 'anthropic' : /\/responses$/.test(pathname) ? 'responses'
      : /\/chat\/completions$/.test(pathname) ? 'chat' : /enerateContent$/.test(pathname) ? 'gemini' : undefined;
    const json = (value) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (/count_tokens$|countTokens$/.test(pathname)) return json({ input_tokens: 9, totalTokens: 9 });
    if (!dialect || request.method !== 'POST') return json({ object: 'list', data: [], models: [] });
    const body = JSON.parse(text);
    const { main, call: wanted } = this.#hear(dialect, body);
    if (main) this.names.add(body.model ?? /models\/([^:/]+)/.exec(pathname)?.[1]);
    const number = ++this.#answers;
    const call = wanted && { id: `call_${number}`, ...wanted };
    const pace = main ? { ...this.pace } : { think: 0, tell: 0, pieces: 1 };
    this.busy += 1;
    try {
      if (pace.think) await later(pace.think);
      const words = Array.from({ length: pace.pieces }, (_, at) => (main ? `answer ${number} part ${at + 1}.\n` : side(dialect, body)));
      await tell[dialect]({ response, json, body, pathname, number, call, words, gap: pace.tell / pace.pieces });
    } finally {
      this.busy -= 1;
    }
  }
}

function side(dialect, body) {
  if (dialect === 'gemini' && (body.generationConfig?.responseJsonSchema || body.generationConfig?.responseSchema)) {
    return JSON.stringify({ reasoning: '-', next_speaker: 'user', model_choice: 'flash', complexity_reasoning: '-', complexity_score: 1 });
  }
  return dialect === 'anthropic' ? '{"title":"real","isNewTopic":false}' : 'real';
}

const later = (ms) => new Promise((ok) => { setTimeout(ok, ms); });

function arguments_(shell, line) {
  switch (shell) {
    case 'exec_command': return { cmd: line, sandbox_permissions: 'require_escalated', justification: 'a test' };
    case 'shell': return { command: ['bash', '-c', line], sandbox_permissions: 'require_escalated', justification: 'a test' };
    default: return { command: line, description: 'a test' };
  }
}

function stream(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  return (data, event) => response.write(`${event ? `event: ${event}\n` : ''}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`);
}

/** How each service tells an answer: words in pieces, or the call of a tool. */
const tell = {
  async anthropic({ response, json, body, number, call, words, gap }) {
    const usage = { input_tokens: 9, output_tokens: 9, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };
    const whole = { id: `msg_${number}`, type: 'message', role: 'assistant', model: body.model, stop_sequence: null, usage };
    if (!body.stream) return json({ ...whole, content: [{ type: 'text', text: words.join('') }], stop_reason: 'end_turn' });
    const put = stream(response);
    const say = (type, more) => put({ type, ...more }, type);
    say('message_start', { message: { ...whole, content: [], stop_reason: null } });
    if (call) {
      say('content_block_start', { index: 0, content_block: { type: 'tool_use', id: `toolu_${number}`, name: call.name, input: {} } });
      say('content_block_delta', { index: 0, delta: { type: 'input_json_delta', partial_json: JSON.stringify(call.input) } });
    } else {
      say('content_block_start', { index: 0, content_block: { type: 'text', text: '' } });
      for (const text of words) {
        say('content_block_delta', { index: 0, delta: { type: 'text_delta', text } });
        if (gap) await later(gap);
        if (response.destroyed) return;
      }
    }
    say('content_block_stop', { index: 0 });
    say('message_delta', { delta: { stop_reason: call ? 'tool_use' : 'end_turn', stop_sequence: null }, usage: { output_tokens: 9 } });
    say('message_stop');
    response.end();
  },

  async responses({ response, body, number, call, words, gap }) {
    const put = stream(response);
    const say = (type, more) => put({ type, ...more }, type);
    const whole = { id: `resp_${number}`, object: 'response', created_at: 0, model: body.model, output: [] };
    say('response.created', { response: { ...whole, status: 'in_progress' } });
    const item = call
      ? { type: 'function_call', id: `fc_${number}`, call_id: call.id, name: call.name, namespace: call.namespace, arguments: JSON.stringify(call.input) }
      : { type: 'message', id: `msg_${number}`, role: 'assistant', content: [{ type: 'output_text', text: words.join(''), annotations: [] }] };
    say('response.output_item.added', { output_index: 0, item: call ? item : { ...item, content: [] } });
    if (!call) {
      for (const delta of words) {
        say('response.output_text.delta', { item_id: item.id, output_index: 0, content_index: 0, delta });
        if (gap) await later(gap);
        if (response.destroyed) return;
      }
    }
    say('response.output_item.done', { output_index: 0, item });
    const usage = { input_tokens: 9, input_tokens_details: { cached_tokens: 0 }, output_tokens: 9, output_tokens_details: { reasoning_tokens: 0 }, total_tokens: 18 };
    say('response.completed', { response: { ...whole, status: 'completed', output: [item], usage } });
    response.end();
  },

  async chat({ response, json, body, number, call, words, gap }) {
    const usage = { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 };
    const whole = { id: `chat_${number}`, created: 0, model: body.model };
    if (!body.stream) {
      return json({ ...whole, object: 'chat.completion', choices: [{ index: 0, message: { role: 'assistant', content: words.join('') }, finish_reason: 'stop' }], usage });
    }
    const put = stream(response);
    const say = (delta, reason = null) => put({ ...whole, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: reason }] });
    if (call) {
      say({ role: 'assistant', tool_calls: [{ index: 0, id: call.id, type: 'function', function: { name: call.name, arguments: JSON.stringify(call.input) } }] });
    } else {
      for (const content of words) {
        say({ role: 'assistant', content });
        if (gap) await later(gap);
        if (response.destroyed) return;
      }
    }
    say({}, call ? 'tool_calls' : 'stop');
    put({ ...whole, object: 'chat.completion.chunk', choices: [], usage });
    put('[DONE]');
    response.end();
  },

  async gemini({ response, json, pathname, call, words, gap }) {
    const usageMetadata = { promptTokenCount: 9, candidatesTokenCount: 9, totalTokenCount: 18 };
    const part = (parts, last) => ({
      candidates: [{ content: { role: 'model', parts }, index: 0, ...(last ? { finishReason: 'STOP' } : {}) }], usageMetadata, modelVersion: 'stand-in',
    });
    if (!/stream/.test(pathname)) return json(part([{ text: words.join('') }], true));
    const put = stream(response);
    if (call) {
      put(part([{ functionCall: { name: call.name, args: call.input } }], true));
    } else {
      for (const [at, text] of words.entries()) {
        put(part([{ text }], at + 1 === words.length));
        if (gap) await later(gap);
        if (response.destroyed) return;
      }
    }
    response.end();
  },
};
