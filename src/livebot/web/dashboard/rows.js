// A list whose rows are text, whatever they hold: Vue escapes what stands in {{ }}.
export default {
  template: `
    <div class="lb-rows" :class="kind" role="list">
      <div v-if="!rows.length" class="lb-empty">{{ empty }}</div>
      <div v-for="row in rows" :key="row.n" v-memo="[row, row.since && now]" class="lb-row" :class="row.tone && 'lb-' + row.tone"
           :data-n="row.n" :data-at="row.at" role="listitem"
           :style="{paddingLeft: row.indent ? 10 + 18 * row.indent + 'px' : null}">
        <i v-if="row.share != null" class="lb-bar" :style="{width: 100 * row.share + '%'}"></i>
        <time v-if="row.at" class="lb-time">{{ clock(row.at) }}</time>
        <q-icon v-if="row.icon" :name="row.icon" class="lb-icon" aria-hidden="true"></q-icon>
        <div class="lb-body">
          <b v-if="row.title" class="lb-title">{{ row.title }}</b>
          <span v-if="row.text" class="lb-text">{{ row.text }}</span>
          <div v-if="row.note" class="lb-note">{{ row.note }}</div>
          <details v-if="row.story" class="lb-story">
            <summary>{{ row.more }}</summary><pre>{{ row.story }}</pre>
          </details>
        </div>
        <span v-if="row.badge" class="lb-badge">{{ row.badge }}</span>
        <span v-if="row.since" class="lb-age">{{ age(row.since) }}</span>
        <button v-if="row.act" class="lb-act" type="button" :title="row.hint"
                :aria-label="row.hint" @click="$emit('act', row.act)">
          <q-icon :name="row.actIcon"></q-icon>
        </button>
      </div>
    </div>`,
  props: { limit: Number, empty: String, kind: String },
  emits: ["act", "drawn"],
  data() {
    return { rows: [], now: Date.now() / 1000 };
  },
  methods: {
    replace(rows, now) {
      this.rows = Object.freeze(rows); // what is frozen Vue does not watch, row by row
      this.now = now;
    },
    // The newest come first; a row that is there already is shown anew where it stands.
    merge(fresh) {
      const known = new Map(this.rows.map((row) => [row.n, row]));
      fresh.forEach((row) => known.set(row.n, row));
      const newest = [...known.values()].sort((a, b) => b.n - a.n).slice(0, this.limit);
      this.rows = Object.freeze(newest);
    },
    // Tell when all that was sent so far can be seen; in a tab that is hidden, when it is shown.
    tell() {
      this.$nextTick(() => requestAnimationFrame(() => this.$emit("drawn")));
    },
    clock(at) {
      return new Date(at * 1000).toLocaleTimeString([], { hour12: false });
    },
    age(since) {
      const seconds = Math.max(0, this.now - since);
      return seconds < 100 ? seconds.toFixed(seconds < 10 ? 1 : 0) + " s" : (seconds / 60).toFixed(0) + " min";
    },
  },
};
