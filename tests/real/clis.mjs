// The agent CLIs, each with a home of its own in which every first question is answered already, and a launcher that starts
// it with a complete environment: nothing of the caller's reaches it but what the broker gives its agents, its key is a dummy,
// and it talks to loopback only.
import fs from 'node:fs';
import path from 'node:path';

const KEY = 'sk-dummy-0000000000000000000000000000-not-a-key';

/** What a program needs that speaks the dialect of chat completions and asks no company for anything. */
const CHAT = (url) => ({ OPENAI_API_KEY: KEY, OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_BASE: `${url}/v1`, OPENAI_MODEL: 'one' });

const first = (root, ...candidates) => candidates.map((name) => path.join(root, 'node_modules', name)).find((file) => fs.existsSync(file));

/** What each CLI needs: its program, its variables, the files of its home. */
const SEEDS = {
  claude: ({ root, url, project, trusted }) => ({
    program: first(root, '@anthropic-ai/claude-code-linux-x64/claude', '.bin/claude'),
    // By itself it has a model judge what may run, and seldom asks.
    args: ['--permission-mode', 'manual'],
    env: {
      ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: KEY, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      DISABLE_TELEMETRY: '1', DISABLE_AUTOUPDATER: '1', DISABLE_ERROR_REPORTING: '1',
    },
    files: {
      '.claude.json': {
        hasCompletedOnboarding: true, lastOnboardingVersion: '99.0.0', theme: 'dark', numStartups: 5,
        customApiKeyResponses: { approved: [KEY.slice(-20)], rejected: [] },
        ...(trusted && { projects: { [project]: { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true, projectOnboardingSeenCount: 5, allowedTools: [] } } }),
      },
    },
  }),
  codex: ({ root, url, home, project }) => ({
    program: first(root, '.bin/codex'),
    env: { FAKE_KEY: KEY, CODEX_HOME: path.join(home, '.codex') },
    files: {
      '.codex/config.toml': [
        'model = "gpt-5"', 'model_provider = "stand_in"', 'check_for_update_on_startup = false',
        '[features]', 'daemon_auto_start = false', '[analytics]', 'enabled = false',
        '[model_providers.stand_in]', 'name = "stand-in"', `base_url = "${url}/v1"`, 'wire_api = "responses"', 'env_key = "FAKE_KEY"',
        'requires_openai_auth = false', `[projects."${project}"]`, 'trust_level = "trusted"', '',
      ].join('\n'),
    },
  }),
  gemini: ({ root, url, project, trusted }) => ({
    program: first(root, '.bin/gemini'),
    env: {
      GEMINI_API_KEY: KEY, GOOGLE_GEMINI_BASE_URL: url, GEMINI_TELEMETRY_ENABLED: 'false',
      // Once its folder is trusted it ends, to be started again by the process above it.
      ...(trusted && { GEMINI_CLI_NO_RELAUNCH: 'true' }),
    },
    files: {
      '.gemini/settings.json': {
        security: { auth: { selectedType: 'gemini-api-key' }, folderTrust: { enabled: true } },
        general: { enableAutoUpdate: false, disableAutoUpdate: true, disableUpdateNag: true },
        privacy: { usageStatisticsEnabled: false }, telemetry: { enabled: false }, ide: { enabled: false, hasSeenNudge: true }, ui: { hideTips: true },
      },
      ...(trusted && { '.gemini/trustedFolders.json': { [project]: 'TRUST_FOLDER' } }),
    },
  }),
  opencode: ({ root, url }) => ({
    program: first(root, 'opencode-linux-x64/bin/opencode', '.bin/opencode'),
    env: {
      OPENCODE_DISABLE_AUTOUPDATE: '1', OPENCODE_DISABLE_MODELS_FETCH: '1', OPENCODE_DISABLE_LSP_DOWNLOAD: '1',
      OPENCODE_DISABLE_DEFAULT_PLUGINS: '1', OPENCODE_DISABLE_SHARE: '1',
    },
    files: {
      '.config/opencode/opencode.json': {
        autoupdate: false, share: 'disabled', permission: { bash: 'ask' }, model: 'stand-in/one', small_model: 'stand-in/one',
        provider: {
          'stand-in': {
            npm: '@ai-sdk/openai-compatible', name: 'stand-in', options: { baseURL: `${url}/v1`, apiKey: KEY },
            models: Object.fromEntries(['one', 'two'].map((name) => [name, { name, tool_call: true, limit: { context: 200_000, output: 8_000 } }])),
          },
        },
      },
    },
  }),
  qwen: ({ root, url }) => ({
    program: first(root, '.bin/qwen'),
    env: { ...CHAT(url), QWEN_TELEMETRY_ENABLED: 'false' },
    files: {
      '.qwen/settings.json': {
        security: { auth: { selectedType: 'openai' }, folderTrust: { enabled: false } }, model: { name: 'one' },
        general: { enableAutoUpdate: false, disableAutoUpdate: true, disableUpdateNag: true },
        privacy: { usageStatisticsEnabled: false }, telemetry: { enabled: false }, ide: { enabled: false, hasSeenNudge: true },
      },
    },
  }),
};

/** Programs of which the broker knows nothing, so that it must tell by what any program does. */
const STRANGERS = {
  pi: ({ root, url }) => ({
    program: first(root, '.bin/pi'),
    args: ['--offline', '--provider', 'stand-in', '--model', 'one'],
    env: { PI_OFFLINE: '1', PI_TELEMETRY: '0', PI_SKIP_VERSION_CHECK: '1' },
    files: {
      '.pi/agent/settings.json': { enableInstallTelemetry: false, lastChangelogVersion: '99.0.0', defaultProvider: 'stand-in', defaultModel: 'one' },
      '.pi/agent/models.json': {
        providers: {
          'stand-in': {
            baseUrl: `${url}/v1`, api: 'openai-completions', apiKey: KEY, compat: { supportsDeveloperRole: false, supportsReasoningEffort: false },
            models: [{ id: 'one' }],
          },
        },
      },
    },
  }),
  aider: ({ root, url, project }) => ({
    program: [path.join(root, 'aider/bin/aider')].find((file) => fs.existsSync(file)),
    args: [
      '--model', 'openai/one', '--no-show-model-warnings', '--no-check-update', '--no-show-release-notes', '--analytics-disable', '--no-git',
      '--no-gitignore', '--edit-format', 'ask', '--map-tokens', '0', '--no-suggest-shell-commands', '--no-detect-urls',
    ],
    env: { ...CHAT(url), AIDER_ANALYTICS: 'false', LITELLM_LOCAL_MODEL_COST_MAP: 'True' },
    // Without this it asks a company for the prices of models.
    files: { '.aider/caches/model_prices_and_context_window.json': { one: { max_input_tokens: 100_000 } } },
  }),
};

/** The names of those that the broker knows, and of all. */
export const KNOWN = Object.keys(SEEDS);
export const CLIS = [...KNOWN, ...Object.keys(STRANGERS)];

/** What the broker says to agents by their environment: who they are, and how some of them find their tools. */
const GIVEN = 'RELAY_*|GEMINI_CLI_SYSTEM_DEFAULTS_PATH|OPENCODE_CONFIG_CONTENT';

const quoted = (word) => `'${String(word).replaceAll("'", String.raw`'\''`)}'`;

/**
 * Makes home, project and launcher of a CLI below `dir`, and returns `{ launcher, project }`. The launcher bears the CLI's
 * name, because that is how the broker knows it. Unless the folder is `trusted`, the CLI asks whether it is.
 */
export function seed(cli, { dir, root, url, trusted }) {
  const [home, project, bin] = ['home', 'project', 'bin'].map((name) => path.join(dir, name));
  for (const folder of [home, project, bin]) fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(project, 'README.md'), '# a project\n');
  const { program, args = [], env, files } = { ...SEEDS, ...STRANGERS }[cli]({ root, url, home, project, trusted });
  if (!program) throw new Error(`${cli} is not installed below ${root}`);
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(home, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content, null, 2));
  }
  const all = {
    PATH: '/usr/local/bin:/usr/bin:/bin', TERM: 'xterm-256color', LANG: 'C.UTF-8', HOME: home, SHELL: '/bin/bash', USER: 'tester',
    NO_PROXY: '*', no_proxy: '*', ...env,
  };
  const launcher = path.join(bin, cli);
  // By the shell itself: a secret that was an argument of `env` would stand in the list of processes.
  const lines = [
    '#!/bin/sh',
    `for name in $(env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'); do case $name in ${GIVEN}) ;; *) unset "$name" ;; esac; done`,
    ...Object.entries(all).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `cd ${quoted(project)} && exec ${[program, ...args].map(quoted).join(' ')} "$@"`,
  ];
  fs.writeFileSync(launcher, `${lines.join('\n')}\n`, { mode: 0o755 });
  return { launcher, project };
}
