// Agents that answer: the model wishes one of the broker's tools, and what the tool does reaches whom it is for. Two agents
// of the CLI, in projects that are git repositories, while somebody reads the command lines of all processes.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

import { until } from '../clients/support.mjs';
import { wish } from './models.mjs';
import { PATIENCE, later } from './world.mjs';

const CLIS = ['claude', 'codex', 'gemini', 'opencode'];
/** How keys and tokens of broker and engine look. */
const SECRET = /\b(?:[a-z]{2}_live_|la_|br_)[0-9a-f]{24,}\b/g;

/** What the CLI keeps there is its own doing: Codex writes its whole environment into a file before it runs commands. */
const HOME = /^(\/peer)?\/home\/\./;

const git = (project, ...args) => execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@localhost', ...args], {
  cwd: project, encoding: 'utf8', env: { PATH: process.env.PATH, HOME: project, GIT_CONFIG_NOSYSTEM: '1' },
});

/** Everything of the CLI's project is committed. */
function repository({ project }) {
  git(project, 'init', '--quiet');
  git(project, 'add', '--all');
  git(project, 'commit', '--quiet', '--message', 'all');
}

/** Reads the command lines of all processes, again and again, and what secrets the broker's agents have. */
class Watch {
  #seen = new Set();
  #secrets = new Set();
  #timer;

  constructor(world) {
    this.world = world;
    this.#timer = setInterval(() => this.#look(), 20);
  }

  #look() {
    for (const pid of processes()) this.#seen.add(of(pid, 'cmdline'));
  }

  /** What is wrong; at the end, when all secrets are known. */
  end() {
    clearInterval(this.#timer);
    const { broker, dir } = this.world;
    const inside = (file) => file.slice(dir.length);
    for (const secret of [broker.api_key, broker.workspace_key]) this.#secrets.add(secret);
    for (const file of files(dir)) {
      for (const [secret] of fs.readFileSync(file, 'latin1').matchAll(SECRET)) this.#secrets.add(secret);
    }
    const tokens = new Set(processes().flatMap((pid) => this.#token(pid)));
    for (const token of tokens) this.#secrets.add(token);
    const troubles = tokens.size < 3 ? [`only ${tokens.size} agents' tokens are known`] : [];
    for (const secret of this.#secrets) {
      const [line] = [...this.#seen].filter((words) => words.includes(secret));
      if (line) troubles.push(`A SECRET STANDS IN A COMMAND LINE: ${line.replaceAll('\0', ' ').slice(0, 300)}`);
      const open = files(dir).filter((file) => !HOME.test(inside(file)) && fs.statSync(file).mode & 0o044 && fs.readFileSync(file, 'latin1').includes(secret));
      if (open.length) troubles.push(`A SECRET STANDS IN A FILE THAT OTHERS MAY READ: ${open}`);
    }
    return troubles;
  }

  /** The token of the agent that this process is, in a list, if it is one of this broker's. */
  #token(pid) {
    const words = of(pid, 'environ').split('\0');
    if (!words.includes(`RELAY_BROKER_STATE_DIR=${this.world.broker.state}`)) return [];
    return words.flatMap((word) => /^RELAY_AGENT_TOKEN=(.+)/.exec(word)?.[1] ?? []);
  }
}

const processes = () => fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));

/** What the kernel says of a process; nothing of one that has ended. */
function of(pid, what) {
  try {
    return fs.readFileSync(`/proc/${pid}/${what}`, 'utf8');
  } catch {
    return '';
  }
}

function files(dir) {
  return fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}

/** What the tool of that name said to the model, after a person had the agent use it; `shape` is the person's sentence. */
async function used(world, name, input, { by = 'agent', meanwhile = async () => {} } = {}) {
  const models = world.modelsOf(by);
  const before = models.results.length;
  const message = await world.send((mark) => `${mark} ${wish(name, input)} please.`, undefined, by);
  await world.accepted(message);
  await meanwhile();
  await until(() => models.results.length > before, `a result of ${name}; not offered: ${models.missed}`, PATIENCE);
  await world.quiet();
  return models.results.at(-1);
}

/** A message that an agent sends by a tool, once it is where it goes; what is wrong about the tool's word. */
async function sentBy(world, message, name, input, expected) {
  const troubles = [];
  const receipt = await used(world, name, input, { by: message.from });
  if (!expected.test(receipt) || receipt.includes(message.text)) troubles.push(`${name} said ${receipt}`);
  await world.answered(message);
  const turn = world.modelsOf(message.to).turns.find((one) => one.includes(message.mark));
  // What is accepted is told by the id that stands in the envelope.
  message.id = /^\s*Relay message from \S+ \[[^\]]* \/ ([^\]]+)\]/.exec(turn ?? '')?.[1];
  await world.accepted(message);
  return troubles;
}

/** In words or as an object: some CLIs tell their model the one, some the other. */
const RECEIPT = /(queued for|delivered to) \w+|"status":"(queued|delivered)"/;

/** Two agents write to each other, look who is there and what waits, and start a third. */
async function tools(world) {
  const watch = new Watch(world);
  await Promise.all([world.ready(), world.ready('bob')]);
  await later(500);
  const troubles = [];
  const says = (what, text, pattern) => {
    if (!pattern.test(text)) troubles.push(`${what} said ${text}`);
  };

  const first = world.awaits((mark) => `${mark} the build is red.`, { from: 'agent', to: 'bob' });
  troubles.push(...await sentBy(world, first, 'send_dm', { to: 'bob', text: first.text }, RECEIPT));
  const reply = world.awaits((mark) => `${mark} I look at it.`, { from: 'bob', to: 'agent' });
  troubles.push(...await sentBy(world, reply, 'reply_to_thread', { message_id: first.id, text: reply.text }, RECEIPT));
  says('send_dm to nobody', await used(world, 'send_dm', { to: 'nobody', text: 'hello' }), /nobody/);

  const roster = await used(world, 'list_agents', {});
  says('list_agents', roster, /agent/);
  says('list_agents', roster, /bob/);
  says('check_inbox', await withHeld(world, 'check_inbox'), /tester[^]*while you look/);
  says('list_agents with mail', await withHeld(world, 'list_agents'), /Unread: 1 from tester/);

  const file = path.join(world.dir, 'helped');
  says('add_agent', await used(world, 'add_agent', { name: 'helper', cli: `tee ${file}`, task: 'count the ships' }), /helper/);
  await until(() => fs.readFileSync(file, 'utf8').includes('count the ships'), 'the task of the helper');

  troubles.push(...watch.end());
  for (const { project } of [world, world.peer]) {
    const changed = git(project, 'status', '--porcelain');
    if (changed) troubles.push(`the project is not as it was: ${changed}`);
  }
  const asked = world.events.filter(({ kind }) => ['agent_blocked', 'dialog_answered', 'delivery_blocked'].includes(kind));
  if (asked.length) troubles.push(`something was asked: ${JSON.stringify(asked)}`);
  if (process.env.VERBOSE) console.log([...world.models.results, ...world.peer.models.results].map((text) => `    told: ${text}`).join('\n'));
  return troubles;
}

/** What a tool says while a message for its agent is held back. */
async function withHeld(world, name) {
  world.models.pace = { think: 3000, tell: 0, pieces: 1 };
  let held;
  const text = await used(world, name, {}, {
    meanwhile: async () => {
      await world.broker.api('PUT', '/api/spawned/agent/delivery-mode', { mode: 'manual_flush' });
      held = await world.send((mark) => `${mark} while you look.`);
    },
  });
  world.models.pace = { think: 0, tell: 0, pieces: 1 };
  await world.broker.api('PUT', '/api/spawned/agent/delivery-mode', { mode: 'auto_inject' });
  await world.accepted(held);
  await world.answered(held);
  return text;
}

tools.how = {
  peer: true,
  config: '[access]\nagents_may = ["spawn"]\n',
  prepare: repository,
};
tools.only = CLIS;

export const TOOL_PLAYS = { tools };
