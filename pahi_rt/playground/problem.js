/** A problem that the person at the page can mend: what is wrong, and the fix. `status` is HTTP's. */
export class Problem extends Error {
  constructor(status, title, fix, detail = "") {
    super(title);
    this.name = "Problem";
    this.status = status;
    this.fix = fix;
    this.detail = detail;
  }

  toJSON() {
    return { status: this.status, title: this.message, detail: this.detail, fix: this.fix };
  }

  static from({ status = 500, title = "something went wrong", detail = "", fix = "" }) {
    return new Problem(status, title, fix, detail);
  }
}

/** A newer request has taken this one's place. */
export class Superseded extends Error {}
