// What people and peers do to an agent, each as a function of a world. A play returns what went wrong beyond the messages
// themselves; those are judged by what the model was told.
import fs from 'node:fs';

import { CLIS, KNOWN } from './clis.mjs';
import { command } from './models.mjs';
import { SHAPES } from './shapes.mjs';
import { PATIENCE, later } from './world.mjs';
import { until } from '../clients/support.mjs';

/** What the permission dialogs say. */
export const DIALOG = /Do you want to proceed\?|Would you like to run the following|Allow execution|Permission required/i;

/** How soon a message that interrupts is heard, in ms. */
const STEERED = Number(process.env.STEERED ?? 1000);

/** What the CLIs say that ask whether their folder is to be trusted. */
const TRUST = /Yes, I trust this folder|Do you trust the files in this folder/;

const short = (word) => (mark) => `${word} ${mark} please look at it.`;

async function all(world, messages) {
  for (const message of messages) {
    if (!await world.accepted(message)) break;
  }
  for (const message of messages) {
    if (message.acceptedAt) await world.answered(message, 20_000);
  }
  await world.quiet();
}

/** One message of a shape after the other, each when the agent is idle. */
async function idle(world, { shape, runs }) {
  await world.ready();
  await later(300);
  for (let run = 0; run < runs; run += 1) {
    const message = await world.send(SHAPES[shape]);
    if (!await world.accepted(message)) return;
    await world.answered(message, 20_000);
  }
}

/** Many at once. */
async function burst(world, { runs }) {
  await world.ready();
  const messages = [];
  for (let run = 0; run < runs; run += 1) messages.push(await world.send(short('burst')));
  await all(world, messages);
}

/** While the model tells a long answer. */
async function busy(world, { runs }) {
  await world.ready();
  world.models.pace = { think: 500, tell: 4000, pieces: 60 };
  const messages = [await world.send(short('first'))];
  await world.models.until((turns) => turns.some((turn) => turn.includes(messages[0].mark)), PATIENCE);
  for (let run = 0; run < runs; run += 1) {
    await later(200);
    messages.push(await world.send(SHAPES[['s40', 's300', 'l40', 'wide'][run % 4]]));
  }
  await all(world, messages);
}

/** While a tool runs that a person has allowed. */
async function tool(world, { runs }) {
  await world.ready();
  await later(300);
  const [began, ended] = ['began', 'ended'].map((name) => world.files(name));
  const messages = [await world.send((mark) => `${mark} ${command(`touch ${began} && sleep 5 && touch ${ended}`)} done.`)];
  await world.accepted(messages[0]);
  await world.shows(DIALOG);
  // No person is so quick, and Claude Code takes no key in the first moment.
  await later(1000);
  await world.type('\r');
  await until(() => fs.existsSync(began), 'the tool to begin');
  for (let run = 0; run < runs; run += 1) {
    await later(200);
    messages.push(await world.send(SHAPES[['s40', 's300', 'l40', 'wide'][run % 4]]));
  }
  const early = !fs.existsSync(ended);
  await all(world, messages);
  return early ? [] : ['the tool ended before all messages were sent'];
}

/** While the model tells an answer without end: a message that interrupts is heard at once. */
async function steer(world, { runs }) {
  await world.ready();
  const messages = [];
  const troubles = [];
  for (let run = 0; run < runs; run += 1) {
    world.models.pace = { think: 200, tell: 60_000, pieces: 600 };
    const first = await world.send(short('first'));
    await world.accepted(first);
    const told = new RegExp(`${first.mark}[^]*answer \\d+ part 9`);
    await world.shows(told);
    world.models.pace = { think: 0, tell: 0, pieces: 1 };
    const urgent = await heardSoon(world);
    messages.push(first, urgent.message);
    troubles.push(...urgent.troubles);
    await world.accepted(urgent.message, 20_000);
    await world.answered(urgent.message, 20_000);
  }
  await all(world, messages);
  return troubles;
}

// aider is interrupted by Ctrl-C alone, which ends most programs that read lines.
steer.only = CLIS.filter((cli) => cli !== 'aider');

/** The same while others wait, in the program or for it: it is heard at once, and they are heard too. */
async function overtake(world, { runs }) {
  await world.ready();
  world.models.pace = { think: 200, tell: 60_000, pieces: 600 };
  const first = await world.send(short('first'));
  await world.accepted(first);
  await world.shows(new RegExp(`${first.mark}[^]*answer \\d+ part 9`));
  const messages = [first];
  for (let run = 0; run < runs; run += 1) {
    const waiting = await world.send(short('waiting'));
    await world.accepted(waiting, 2000);
    messages.push(waiting);
  }
  world.models.pace = { think: 0, tell: 8000, pieces: 80 };
  const urgent = await heardSoon(world);
  await all(world, [...messages, urgent.message]);
  return urgent.troubles;
}
overtake.only = KNOWN;

/** Interrupts what goes on, and says how soon that was heard. */
async function heardSoon(world) {
  const began = performance.now();
  const message = await world.send(short('stop that'), 'steer');
  await world.models.until((turns) => turns.some((turn) => turn.includes(message.mark)), 20_000);
  const took = performance.now() - began;
  world.heardAfter.push(Math.round(took));
  return { message, troubles: took > STEERED ? [`it was heard after ${Math.round(took)} ms only`] : [] };
}

/** Before the agent has drawn anything. */
async function start(world, { runs }) {
  const messages = [];
  for (let run = 0; run < runs; run += 1) messages.push(await world.send(SHAPES[['s40', 's3k', 'l40'][run % 3]]));
  await all(world, messages);
}

/** While a person is in the middle of a line, which the person ends later. */
async function draft(world, { runs }) {
  await world.ready();
  await later(500);
  for (let run = 0; run < runs; run += 1) {
    const words = `typed by hand ${run} `;
    await world.type(words);
    await world.shows(new RegExp(words.trim()));
    const message = await world.send(short('meanwhile'));
    await world.accepted(message, 6000);
    await world.type('and sent');
    await world.shows(/and sent/);
    // No person is so quick that Enter looks like a part of a paste.
    await later(500);
    await world.type('\r');
    world.typed = [...(world.typed ?? []), `${words}and sent`];
    await all(world, [message]);
    await world.models.until((turns) => turns.some((turn) => turn.includes(`${words}and sent`)), 20_000);
    await world.quiet();
  }
}

// Where the input line is not known, a message may go behind the words in it.
draft.only = KNOWN;

/** Behind a line that a person has left half typed: Claude Code can put it aside and bring it back, others are waited for. */
async function left(world) {
  await world.ready();
  await later(500);
  const troubles = [];
  await world.type('left half typed');
  await world.shows(/left half typed/);
  const message = await world.send(short('meanwhile'));
  const came = await world.accepted(message, 20_000);
  if (came !== (world.cli === 'claude')) troubles.push(came ? 'the message did not wait' : 'the line was not put aside');
  if (came) await world.answered(message);
  await later(1000);
  await world.shows(/left half typed/);
  await world.type('\r');
  world.typed = ['left half typed'];
  await all(world, [message]);
  if (!await world.models.until((turns) => turns.some((turn) => turn.trim() === 'left half typed'), 5000)) troubles.push('the line is gone');
  return troubles;
}

left.only = KNOWN;

/** While a question whether a command may run stands open; a person answers it. */
async function dialog(world, { runs }) {
  await world.ready();
  await later(300);
  const file = world.files('was-run');
  const asking = await world.send((mark) => `${mark} ${command(`touch ${file}`)} done.`);
  await world.accepted(asking);
  await world.shows(DIALOG);
  const before = asked(await world.screen());
  const messages = [];
  const troubles = [];
  for (let run = 0; run < runs; run += 1) messages.push(await world.send(DIALOG_TEXTS[run % DIALOG_TEXTS.length]));
  if (!await world.heard(({ kind, event_id: id }) => kind === 'delivery_blocked' && id === messages[0].id, 20_000)) {
    troubles.push('the first message is not reported as blocked');
  }
  await later(3000);
  if (fs.existsSync(file)) troubles.push('THE COMMAND RAN');
  if (asked(await world.screen()) !== before) troubles.push('the dialog was touched');
  const { pending_deliveries: pending } = await world.broker.api('GET', '/api/status');
  const silent = messages.filter(({ id }) => !pending.some((row) => row.event_id === id && row.last_error));
  if (silent.length) troubles.push(`${silent.length} of ${messages.length} are not shown as blocked`);
  const told = new Set(world.events.filter(({ kind }) => kind === 'delivery_blocked').map(({ event_id: id }) => id));
  const untold = messages.filter(({ id }) => !told.has(id));
  if (untold.length) troubles.push(`of ${untold.length} of ${messages.length} no event told that they are blocked`);
  const { phase } = await world.state();
  if (phase !== 'blocked') troubles.push(`the agent counts as ${phase}`);
  await world.type('\r');
  await all(world, messages);
  if (!fs.existsSync(file)) troubles.push('the command did not run after the answer');
  return troubles;
}

/** In a folder that nobody has trusted yet; a person does. */
async function untrusted(world, { runs }) {
  const messages = [];
  const troubles = [];
  for (let run = 0; run < runs; run += 1) messages.push(await world.send(short('early')));
  await world.shows(TRUST);
  const asked = performance.now();
  if (!await world.heard(({ kind, dialog: what }) => kind === 'agent_blocked' && what === 'trust_folder', 10_000)) troubles.push('the dialog is not told');
  const after = performance.now() - asked;
  if (after > 3500) troubles.push(`the dialog is told after ${Math.round(after)} ms`);
  const { phase, blocked_on: on } = await world.state();
  if (phase !== 'blocked' || on !== 'trust_folder') troubles.push(`the agent counts as ${phase}, ${on}`);
  await later(2000);
  if (!TRUST.test(await world.screen())) troubles.push('the dialog was touched');
  await world.type('1');
  await all(world, messages);
  return troubles;
}
untrusted.how = { trusted: false };
untrusted.only = ['claude', 'gemini'];

/** The same for an operator who trusts it. */
async function trust(world, { runs }) {
  const messages = [];
  for (let run = 0; run < runs; run += 1) messages.push(await world.send(short('early')));
  await all(world, messages);
  return answers(world, 'trust_folder', 1, 1);
}
trust.how = { trusted: false, says: 'trust_folder = "accept"' };
trust.only = untrusted.only;

/** For an operator who lets nothing be run. */
async function deny(world, { runs }) {
  await world.ready();
  await later(300);
  const file = world.files('was-run');
  for (let run = 0; run < runs; run += 1) {
    await all(world, [await world.send((mark) => `${mark} ${command(`touch ${file}`)} done.`)]);
    await world.heard(({ kind }) => kind === 'dialog_answered' && world.events.filter((event) => event.kind === kind).length > run, 20_000);
    await later(1000);
    await all(world, [await world.send(short('after'))]);
  }
  return [...answers(world, 'permission', runs), ...(fs.existsSync(file) ? ['THE COMMAND RAN'] : [])];
}
deny.how = { says: 'permission = "deny"' };

/** What is wrong about the answers that were given by policy. A model whose wish was denied may wish the same again. */
function answers(world, dialog, least, most = Infinity) {
  const given = world.events.filter(({ kind }) => kind === 'dialog_answered').map((event) => event.dialog);
  return given.length >= least && given.length <= most && given.every((one) => one === dialog) ? [] : [`answered by policy: ${given.join(', ') || 'nothing'}`];
}

/** Harmless sentences that single keys of which would answer a dialog. */
const DIALOG_TEXTS = [
  short('yes'), short('1'), short('p'), short('n'), SHAPES.s300, SHAPES.l40, SHAPES.hostile, SHAPES.ctrl, (mark) => `y\n1\n${mark}\n2`,
];

/** The rows of the dialog: what stands still while everything around it may move. */
function asked(screen) {
  const rows = screen.split('\n');
  const from = rows.findIndex((row) => DIALOG.test(row));
  return rows.slice(from).filter((row) => /\d\.|\?/.test(row)).map((row) => row.trim()).join('\n');
}

/** It is released, and another goes on with its session: with the same program, in the same folder, and with all that was said. */
async function resume(world) {
  await world.ready();
  const first = await world.send(short('first'));
  await world.accepted(first);
  await world.answered(first);
  const { sessionId: before } = await world.state();
  await world.broker.api('DELETE', '/api/spawned/agent');
  world.events.length = 0;
  await world.broker.api('POST', '/api/spawn', { name: 'agent', resume: 'agent', idle_threshold_secs: 1 });
  await world.ready();
  const second = await world.send(short('second'));
  await world.accepted(second);
  await world.answered(second);
  const { sessionId: after } = await world.state();
  const troubles = before && before === after ? [] : [`the session was ${before} and is ${after}`];
  const knows = world.models.turns.some((turn) => turn.includes(first.mark));
  return knows ? troubles : [...troubles, 'the model was not told what was said before'];
}

// Of the others the broker does not know which session they have.
resume.only = ['claude'];

export const PLAYS = { idle, burst, busy, tool, steer, overtake, start, draft, left, dialog, untrusted, trust, deny, resume };
