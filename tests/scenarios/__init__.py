"""Stories on the real kernel whose truth is known by construction, told to the real `tcptrace watch --json`: is it right?"""
